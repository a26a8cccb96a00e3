import { describe, expect, it } from 'vitest';
import type { EngineInput, SweepOutcome } from '../../../src/engine/sweep-outcome.ts';
import type { SequenceRequest } from '../../../src/engine/sequence.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import {
  collect,
  damagedWeights,
  makeRequest,
  openTiny,
  type RequestOptions,
  resultsOf,
  type TinyEngine,
  type TinyOptions,
} from '../../helpers/tiny-engine.ts';

const nullDevice = () => createNullDevice({ flopsPerSecond: 1e9, bytesPerSecond: 1e9 });
const many = (length: number, from = 0): number[] => Array.from({ length }, (_, i) => (from + 7 * i) % 40);

/** A row whose prompt is `beginning` and then something that no other row has. */
const row = (id: number, beginning: readonly number[], options: RequestOptions = {}): SequenceRequest =>
  makeRequest(id, { tokens: [...beginning, id % 40, (id + 3) % 40, 5], maxTokens: 2, ...options });

const rows = (count: number, beginning: readonly number[], options?: RequestOptions): SequenceRequest[] =>
  Array.from({ length: count }, (_, id) => row(id, beginning, options));

const isFree = ({ cache }: TinyEngine): boolean => cache.availablePages === cache.capacityPages;
/** Tokens of prompts that each sweep computed, and those that it did not need to. */
const prompts = (outcomes: readonly SweepOutcome[]): number[][] =>
  outcomes.map(({ promptTokens, sharedTokens }) => [promptTokens, sharedTokens]);

async function outcomesOf(requests: Iterable<EngineInput>, options: TinyOptions = {}): Promise<SweepOutcome[]> {
  await using tiny = openTiny({ device: nullDevice(), batchTokens: 256, ...options });
  const outcomes = await collect(tiny.engine.run(requests));
  expect(isFree(tiny)).toBe(true);
  return outcomes;
}

describe('prompts that begin alike', () => {
  it('are computed from where they differ, once the first of them is there', async () => {
    const outcomes = await outcomesOf(rows(4, many(70)));
    expect(prompts(outcomes).slice(0, 3)).toEqual([
      [73, 0],
      [9, 210],
      [0, 0],
    ]);
    expect(resultsOf(outcomes).size).toBe(4);
  });

  it('compute everything where sharing is off', async () => {
    const outcomes = await outcomesOf(rows(4, many(50)), { sharePrefixes: false });
    expect(prompts(outcomes)[0]).toEqual([212, 0]);
  });

  it.each([
    // shared beginning, whether it counts
    [7, false],
    [8, true],
  ])('count from 8 tokens on: %i', async (length, counts) => {
    const outcomes = await outcomesOf(rows(3, many(length)));
    expect(prompts(outcomes)[0]).toEqual([counts ? length + 3 : 3 * (length + 3), 0]);
  });

  it('leave the last token to every row, also to one that is the beginning of another', async () => {
    const tokens = many(64);
    const outcomes = await outcomesOf([
      makeRequest(0, { tokens }),
      makeRequest(1, { tokens }),
      makeRequest(2, { tokens: tokens.slice(0, 30) }),
    ]);
    expect(prompts(outcomes).slice(0, 2)).toEqual([
      [64, 0],
      [2, 63 + 29],
    ]);
  });

  it('are found among several kinds, in any order', async () => {
    const kinds = [many(20), many(30, 1), many(12, 2)];
    const requests = Array.from({ length: 30 }, (_, id) => row(id, kinds[(id * 7) % 3]!));
    const outcomes = await outcomesOf(requests, { gpuBatchSize: 10, kvPages: [80] });
    expect(prompts(outcomes)[0]).toEqual([20 + 30 + 12 + 9, 0]);
    const shared = outcomes.reduce((sum, { sharedTokens }) => sum + sharedTokens, 0);
    expect(shared).toBe(9 * (20 + 30 + 12));
  });

  it('use the longest beginning that is there: a part that more rows share, then more of it', async () => {
    const system = many(40);
    const instruction = [...system, ...many(20, 3)];
    const requests = [row(0, system), row(1, instruction, { maxTokens: 9 }), row(2, instruction), row(3, instruction)];
    const outcomes = await outcomesOf(requests, { gpuBatchSize: 2 });
    // Row 1 waits for row 0. When that leaves, row 2 finds row 1, and row 3 what row 2 has used.
    expect(prompts(outcomes).slice(0, 3)).toEqual([
      [43, 0],
      [23, 40],
      [3, 60],
    ]);
    expect(outcomes.reduce((sum, { sharedTokens }) => sum + sharedTokens, 0)).toBe(160);
  });

  it('are kept while rows come and go, even one at a time', async () => {
    const outcomes = await outcomesOf(rows(5, many(30)), { gpuBatchSize: 1, kvPages: [16] });
    expect(outcomes.reduce((sum, { promptTokens }) => sum + promptTokens, 0)).toBe(33 + 4 * 3);
  });

  it('are kept when all rows leave at once', async () => {
    const outcomes = await outcomesOf(rows(9, many(30), { maxTokens: 1 }), { gpuBatchSize: 3, kvPages: [16] });
    expect(prompts(outcomes)).toEqual([
      [33, 0],
      [9, 90],
      [9, 90],
      [6, 60],
    ]);
  });

  it('are kept of each kind, also where all kinds have their first tokens in common', async () => {
    const kinds = [9, 17, 23].map((own) => [...many(4), ...many(6, own)]);
    const requests = Array.from({ length: 24 }, (_, id) => row(id, kinds[id % 3]!, { maxTokens: 1 }));
    const outcomes = await outcomesOf(requests, { gpuBatchSize: 6, kvPages: [24] });
    // Each kind once, and of every row its own 3 tokens.
    expect(outcomes.reduce((sum, { promptTokens }) => sum + promptTokens, 0)).toBe(3 * 10 + 24 * 3);
  });

  it('do not wait for rows that wait: a chain of ever longer prompts takes two sweeps to begin', async () => {
    const requests = Array.from({ length: 8 }, (_, id) => makeRequest(id, { tokens: many(20 * (id + 1)), maxTokens: 6 }));
    const outcomes = await outcomesOf(requests, { gpuBatchSize: 8, batchTokens: 1000, kvPages: [40] });
    expect(
      prompts(outcomes)
        .slice(0, 3)
        .map(([computed]) => computed! > 0),
    ).toEqual([true, true, false]);
  });

  it('whose tokens are scored are computed in full', async () => {
    const outcomes = await outcomesOf([
      ...rows(2, many(20)),
      row(2, many(20), { promptLogprobs: 0 }),
      row(3, many(20), { promptLogprobs: 0, maxTokens: 0 }),
    ]);
    expect(prompts(outcomes).slice(0, 2)).toEqual([
      [69, 0],
      [3, 20],
    ]);
  });

  it('begin anew without the row they waited for, if it is stopped', async () => {
    await using tiny = openTiny({ device: nullDevice(), batchTokens: 16 });
    const outcomes: SweepOutcome[] = [];
    const stopped: unknown[] = [];
    for await (const outcome of tiny.engine.run(rows(2, many(60)))) {
      outcomes.push(outcome);
      if (outcomes.length === 2) stopped.push(tiny.engine.stop(0)?.generated);
    }
    expect(stopped).toEqual([[]]);
    expect(prompts(outcomes).slice(0, 3)).toEqual([
      [16, 0],
      [16, 0],
      [16, 0],
    ]);
    expect(resultsOf(outcomes).get(1)?.generated).toHaveLength(2);
    expect(isFree(tiny)).toBe(true);
  });
});

describe('pages', () => {
  /** Pages in use after each sweep. */
  async function pagesOf(requests: readonly SequenceRequest[], options: TinyOptions): Promise<number[]> {
    await using tiny = openTiny({ device: nullDevice(), batchTokens: 256, ...options });
    const used: number[] = [];
    for await (const _outcome of tiny.engine.run(requests)) used.push(tiny.cache.capacityPages - tiny.cache.availablePages);
    expect(isFree(tiny)).toBe(true);
    return used;
  }

  it('that are full are shared, so that more rows fit', async () => {
    // 128 tokens are two pages, the rest of each row one more. Without sharing 10 pages hold three rows.
    const options = { gpuBatchSize: 8, kvPages: [10] };
    const requests = rows(8, many(128), { maxTokens: 5 });
    const running = async (sharePrefixes: boolean): Promise<number> =>
      Math.max(...(await outcomesOf(requests, { ...options, sharePrefixes })).map((outcome) => outcome.running));
    expect([await running(false), await running(true)]).toEqual([3, 8]);
  });

  it('are kept up to a quarter, and given back at the end', async () => {
    const requests = Array.from({ length: 24 }, (_, id) => row(id, many(20, Math.floor(id / 2))));
    const used = await pagesOf(requests, { gpuBatchSize: 1, kvPages: [16] });
    expect(Math.max(...used)).toBeLessThanOrEqual(1 + 4);
    expect(used.at(-1)).toBe(4);
  });

  it('are given up for a row that would not fit otherwise', async () => {
    const requests = [...rows(3, many(60)), makeRequest(3, { tokens: 200, maxTokens: 50 }), row(4, many(60))];
    const outcomes = await outcomesOf(requests, { gpuBatchSize: 1, kvPages: [4] });
    expect(resultsOf(outcomes).get(3)?.generated).toHaveLength(50);
    expect(outcomes.reduce((sum, { sharedTokens }) => sum + sharedTokens, 0)).toBe(120);
  });

  it('for one row only do not keep others from sharing, nor stop the run', async () => {
    const results = resultsOf(await outcomesOf(rows(6, many(100), { maxTokens: 20 }), { gpuBatchSize: 6, kvPages: [2] }));
    expect(results.size).toBe(6);
  });

  it.each([1, 2, 3, 4])('come back after a run that is aborted in sweep %i', async (sweep) => {
    await using tiny = openTiny({ device: createReferenceDevice(), batchTokens: 32 });
    const controller = new AbortController();
    let sweeps = 0;
    const run = async (): Promise<void> => {
      for await (const _outcome of tiny.engine.run(rows(40, many(50)), controller.signal)) {
        if (++sweeps === sweep) controller.abort(new Error('enough'));
      }
    };
    await expect(run()).rejects.toThrow('enough');
    expect(isFree(tiny)).toBe(true);
    expect(resultsOf(await collect(tiny.engine.run(rows(3, many(50))))).size).toBe(3);
  });

  it('that the device cannot copy end the run, and all come back', async () => {
    const device = createReferenceDevice();
    device.copy = () => Promise.reject(new Error('device on fire'));
    await using tiny = openTiny({ device });
    await expect(collect(tiny.engine.run(rows(3, many(50))))).rejects.toThrow('device on fire');
    expect(isFree(tiny)).toBe(true);
  });
});

describe('numbers that are none', () => {
  it.each([
    // position, and the row that is named: the one that computes it
    ['in the common beginning', 20, 0],
    ['behind it', 44, 2],
  ])('%s are reported with row and layer, and all pages come back', async (_where, position, named) => {
    const requests = [2, 2, 9, 2].map((own, id) => row(id, many(40), { tokens: [...many(40), ...many(own, id + 1)] }));
    await using tiny = openTiny({ weights: damagedWeights('position_embd.weight', (2 + position) * 16), batchTokens: 16 });
    await expect(collect(tiny.engine.run(requests))).rejects.toThrow(`row ${named}, embed: the result is not a number`);
    expect(isFree(tiny)).toBe(true);
  });
});

describe('keys that depend on the length of a sequence', () => {
  const model = () =>
    buildModel(
      {
        model_type: 'phi3',
        vocab_size: 40,
        hidden_size: 16,
        intermediate_size: 32,
        num_attention_heads: 2,
        num_key_value_heads: 1,
        num_hidden_layers: 1,
        max_position_embeddings: 512,
        original_max_position_embeddings: 100,
        rope_scaling: { type: 'longrope', short_factor: [1, 1.5, 2, 2.5], long_factor: [4, 5, 6, 7] },
      },
      'config.json',
    );

  it('are shared by sequences that never outgrow the original context, and by no others', async () => {
    // 53 tokens of prompt: up to 100 with 47 more.
    const requests = [50, 47, 48, 47, 60].map((maxTokens, id) => row(id, many(50), { maxTokens }));
    const outcomes = await outcomesOf(requests, { model: model(), gpuBatchSize: 5, batchTokens: 512, kvPages: [40] });
    expect(prompts(outcomes).slice(0, 2)).toEqual([
      [4 * 53, 0],
      [3, 50],
    ]);
  });
});

describe('a slow source', () => {
  it('is not waited for: a row that comes later shares what is there', async () => {
    await using tiny = openTiny();
    let release = (): void => {};
    const gate = new Promise<void>((resolve) => (release = resolve));
    async function* source() {
      yield row(0, many(50), { maxTokens: 6 });
      await gate;
      yield* [1, 2].map((id) => row(id, many(50)));
    }
    const outcomes: SweepOutcome[] = [];
    for await (const outcome of tiny.engine.run(source())) {
      outcomes.push(outcome);
      if (outcomes.length === 3) release();
    }
    expect(resultsOf(outcomes).size).toBe(3);
    expect(outcomes[0]!.promptTokens).toBe(53);
    expect(outcomes.reduce((sum, { sharedTokens }) => sum + sharedTokens, 0)).toBe(100);
  });
});
