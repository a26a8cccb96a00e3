import { describe, expect, it } from 'vitest';
import { assembleChunks, assembleMicroBatch, chunkSizes } from '../../../src/engine/micro-batch.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import { PagePool } from '../../../src/kv/page-pool.ts';
import { PageTable } from '../../../src/kv/page-table.ts';
import { KvSequence } from '../../../src/kv/kv-cache.ts';
import { makeRequest, type RequestOptions } from '../../helpers/tiny-engine.ts';

/** Room whose first page has this number. */
function pageHolder(page: number): KvSequence {
  const pool = new PagePool(page);
  for (let i = 1; i < page; i++) if (pool.reserve(1)) pool.take();
  const table = PageTable.open({ memory: pool, pools: [pool] }, { positions: 1, window: Infinity, chunk: 1 })!;
  table.takePage();
  return new KvSequence([Infinity], [table], 0);
}

/** A sequence that has computed so much and generated so much. */
function sequenceOf(id: number, options: RequestOptions, computed = 0, generated: number[] = []): Sequence {
  const request = makeRequest(id, options);
  const sequence = new Sequence(request, pageHolder(id + 1), request.tokens.length + request.sampling.maxTokens);
  sequence.computed = computed;
  for (const token of generated) sequence.push(token);
  return sequence;
}

describe('chunkSizes', () => {
  const decoding = sequenceOf(0, { tokens: [1, 2] }, 2, [7]);
  const prompt = (tokens: number, computed = 0) => sequenceOf(1, { tokens }, computed);
  it.each<[string, Sequence[], number, number[]]>([
    ['prompts whole while there is room', [prompt(5), prompt(3)], 8, [5, 3]],
    ['then a part, then none', [prompt(5), prompt(5), prompt(5)], 8, [5, 3, 0]],
    ['the rest of a prompt', [prompt(5, 4), prompt(5)], 4, [1, 3]],
    ['decoding rows first, wherever they are', [prompt(5), decoding, decoding], 4, [2, 1, 1]],
    ['decoding rows even without room', [decoding, prompt(5), decoding], 1, [1, 0, 1]],
    ['nothing', [], 4, []],
  ])('gives %s', (_what, sequences, batchTokens, sizes) => expect(chunkSizes(sequences, batchTokens, 1)).toEqual([sizes]));

  it('goes on with the rest of prompts in further pieces, until there is none', () => {
    const sequences = [sequenceOf(0, { tokens: 5 }), sequenceOf(1, { tokens: 2, maxTokens: 4 }, 2, [7]), sequenceOf(2, { tokens: 9 })];
    const pieces = [
      [3, 1, 0],
      [2, 0, 2],
      [0, 0, 4],
      [0, 0, 3],
    ];
    expect(chunkSizes(sequences, 4, 8)).toEqual(pieces);
    expect(chunkSizes(sequences, 4, 2)).toEqual(pieces.slice(0, 2));
    const chunks = assembleChunks(sequences, pieces);
    expect(chunks.map(({ rows }) => rows.map(({ start, tokens }) => [start, tokens.length]))).toEqual([
      [
        [0, 3],
        [2, 1],
      ],
      [
        [3, 2],
        [0, 2],
      ],
      [[2, 4]],
      [[6, 3]],
    ]);
    expect(chunks.map(({ outputs }) => outputs.map(({ sequence, row, position }) => [sequence.request.id, row, position]))).toEqual([
      [[1, 3, 3]],
      [[0, 1, 5]],
      [],
      [[2, 2, 9]],
    ]);
    expect(chunks.map(({ promptTokens }) => promptTokens)).toEqual([3, 4, 4, 3]);
  });
});

describe('assembleMicroBatch', () => {
  it('puts rows one after the other, without those that wait', () => {
    const sequences = [
      sequenceOf(0, { tokens: [10, 11, 12] }),
      sequenceOf(1, { tokens: [20, 21] }, 2, [29]),
      sequenceOf(2, { tokens: [30, 31] }),
      sequenceOf(3, { tokens: [5, 6, 7, 8] }, 1),
    ];
    const { rows, outputs, promptTokens, sequences: active } = assembleMicroBatch(sequences, [3, 1, 0, 2]);
    expect(rows.map(({ tokens, start, pages }) => [[...tokens], start, pages])).toEqual([
      [[10, 11, 12], 0, [1]],
      [[29], 2, [2]],
      [[6, 7], 1, [4]],
    ]);
    expect(outputs.map(({ sequence, row, position }) => [sequence.request.id, row, position])).toEqual([
      [0, 2, 3],
      [1, 3, 3],
    ]);
    expect([active.map(({ request }) => request.id), promptTokens]).toEqual([[0, 1, 3], 5]);
  });

  const prompt = { tokens: [1, 2, 3, 4, 5], promptLogprobs: 0 };
  it.each<[string, RequestOptions, number, number, [row: number, position: number][]]>([
    [
      'the whole prompt',
      prompt,
      0,
      5,
      [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
        [4, 5],
      ],
    ],
    [
      'its beginning',
      prompt,
      0,
      2,
      [
        [0, 1],
        [1, 2],
      ],
    ],
    [
      'its middle',
      prompt,
      2,
      2,
      [
        [0, 3],
        [1, 4],
      ],
    ],
    ['its end', prompt, 4, 1, [[0, 5]]],
    [
      'the whole prompt, without sampling',
      { ...prompt, maxTokens: 0 },
      0,
      5,
      [
        [0, 1],
        [1, 2],
        [2, 3],
        [3, 4],
      ],
    ],
    ['its end, without sampling', { ...prompt, maxTokens: 0 }, 4, 1, []],
    ['a prompt that is not scored', { tokens: [1, 2, 3] }, 0, 3, [[2, 3]]],
    ['its beginning, not scored', { tokens: [1, 2, 3] }, 0, 2, []],
    ['a prompt of one token', { tokens: [1], promptLogprobs: 0 }, 0, 1, [[0, 1]]],
    ['a prompt of one token, without sampling', { tokens: [1], promptLogprobs: 0, maxTokens: 0 }, 0, 1, []],
  ])('outputs of %s', (_what, options, computed, size, wanted) => {
    const { outputs } = assembleMicroBatch([sequenceOf(0, options, computed)], [size]);
    expect(outputs.map(({ row, position }) => [row, position])).toEqual(wanted);
  });
});
