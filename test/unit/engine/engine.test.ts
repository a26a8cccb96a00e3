import { describe, expect, it } from 'vitest';
import type { EngineInput } from '../../../src/engine/sweep-outcome.ts';
import type { SequenceResult } from '../../../src/engine/sequence.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import { NumericError, RequestError, UsageError } from '../../../src/util/errors.ts';
import { collect, damagedWeights, makeRequest, openTiny, resultsOf, runAll, type PlainResult } from '../../helpers/tiny-engine.ts';

/** Ids that every way of computing must give. Prompts from 1 token to more than a page, different lengths of completion. */
const MIXED = [1, 5, 70, 2, 64, 9, 33, 3].map((tokens, id) =>
  makeRequest(id, { tokens, maxTokens: 3 + (id % 4) * 5, logprobs: 2, promptLogprobs: 1 }),
);

const plain = ({ generated, end, promptTokens }: PlainResult) => ({ generated, end, promptTokens });
const nullDevice = () => createNullDevice({ flopsPerSecond: 1e9, bytesPerSecond: 1e9 });
const numbersOf = (result: PlainResult): number[] =>
  [...(result.logprobs ?? []), ...(result.promptLogprobs ?? [])].flatMap((entry) =>
    entry ? [entry.logprob, ...entry.top.map((t) => t.logprob)] : [],
  );

async function runAlone(): Promise<Map<number, PlainResult>> {
  await using tiny = openTiny({ gpuBatchSize: 1, batchTokens: 256 });
  const results = new Map<number, PlainResult>();
  for (const request of MIXED) for (const [id, result] of await runAll(tiny.engine, [request])) results.set(id, result);
  return results;
}

describe('Engine', () => {
  const alone = runAlone();

  it('generates what the requests ask for', async () => {
    const results = await alone;
    expect([...results.keys()]).toEqual(MIXED.map(({ id }) => id));
    for (const { id, tokens, sampling } of MIXED) {
      const result = results.get(id)!;
      expect(result.generated).toHaveLength(sampling.maxTokens);
      expect([result.end, result.promptTokens, result.logprobs?.length]).toEqual(['length', tokens.length, sampling.maxTokens]);
      expect(result.promptLogprobs).toHaveLength(tokens.length);
      expect(result.promptLogprobs!.map((entry) => entry?.id ?? null)).toEqual([null, ...tokens.slice(1)]);
      expect(result.logprobs!.map((entry) => entry.id)).toEqual(result.generated);
      expect(result.logprobs!.every((entry) => entry.top.length === 2 && entry.top[0]!.id === entry.id)).toBe(true);
    }
    expect(new Set([...results.values()].flatMap(({ generated }) => generated)).size).toBeGreaterThan(3); // the model says something
  });

  it.each([
    ['all at once', { gpuBatchSize: 8 }],
    ['refilled as others finish', { gpuBatchSize: 3 }],
    ['in two micro-batches', { gpuBatchSize: 2, numGpuBatches: 2 }],
    ['in three micro-batches of one row', { gpuBatchSize: 1, numGpuBatches: 3 }],
    ['prompts in chunks of 7', { gpuBatchSize: 4, batchTokens: 7 }],
    ['prompts in chunks, one output at a time', { gpuBatchSize: 4, batchTokens: 16, headRows: 1 }],
    ['with room for few sequences', { gpuBatchSize: 8, kvPages: [3] }],
  ])('gives the same results %s', async (_what, options) => {
    await using tiny = openTiny({ batchTokens: 256, kvPages: [32], ...options });
    const results = await runAll(tiny.engine, MIXED);
    for (const [id, wanted] of await alone) {
      const got = results.get(id)!;
      expect(plain(got)).toEqual(plain(wanted));
      for (const [i, number] of numbersOf(wanted).entries()) expect(numbersOf(got)[i]).toBeCloseTo(number, 5);
    }
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
  });

  it('admits as many as the cache has room for, and the next when one leaves', async () => {
    await using tiny = openTiny({ device: nullDevice(), gpuBatchSize: 8, kvPages: [3], batchTokens: 256 });
    // One page each; the last needs two.
    const requests = [60, 60, 60, 60, 61].map((tokens, id) => makeRequest(id, { tokens, maxTokens: id === 0 ? 1 : 4 }));
    const outcomes = await collect(tiny.engine.run(requests));
    expect(outcomes.map(({ admittedTokens, running, finished }) => [admittedTokens, running, finished.map(({ id }) => id)])).toEqual([
      [180, 2, [0]],
      [60, 3, []],
      [0, 3, []],
      [0, 1, [1, 2]],
      [61, 1, [3]],
      [0, 1, []],
      [0, 1, []],
      [0, 0, [4]],
    ]);
  });

  it('cuts a long prompt into chunks and samples once, behind the last', async () => {
    await using tiny = openTiny({ device: nullDevice(), batchTokens: 32 });
    const outcomes = await collect(tiny.engine.run([makeRequest(0, { tokens: 70, maxTokens: 2 })]));
    expect(outcomes.map(({ promptTokens, tokens, running }) => [promptTokens, tokens.length, running])).toEqual([
      [32, 0, 1],
      [32, 0, 1],
      [6, 1, 1],
      [0, 1, 0],
    ]);
  });

  it('goes on decoding while a long prompt comes in, within the room for tokens', async () => {
    await using tiny = openTiny({ device: nullDevice(), batchTokens: 32, gpuBatchSize: 2 });
    const outcomes = await collect(
      tiny.engine.run([makeRequest(0, { tokens: 2, maxTokens: 4 }), makeRequest(1, { tokens: 90, maxTokens: 1 })]),
    );
    expect(outcomes.map(({ promptTokens, tokens }) => [promptTokens, tokens.map(({ id }) => id)])).toEqual([
      [32, [0]],
      [31, [0]],
      [29, [0, 1]],
      [0, [0]],
    ]);
  });

  it('ends a sequence at a stop id, which it reports', async () => {
    const { generated } = (await alone).get(1)!;
    const stop = generated[2]!;
    await using tiny = openTiny();
    const result = (await runAll(tiny.engine, [{ ...MIXED[1]!, stopIds: new Set([stop]) }])).get(1)!;
    expect(result.end).toBe('stop');
    expect(result.generated).toEqual(generated.slice(0, generated.indexOf(stop) + 1));
  });

  it('ends at the context', async () => {
    await using tiny = openTiny({ device: nullDevice(), batchTokens: 256 });
    const result = (await runAll(tiny.engine, [makeRequest(0, { tokens: 250, maxTokens: 100 })])).get(0)!;
    expect([result.end, result.generated.length]).toEqual(['length', 6]);
  });

  it('scores prompts without generating, across chunks', async () => {
    const wanted = await alone;
    await using tiny = openTiny({ batchTokens: 10, gpuBatchSize: 2 });
    const requests = MIXED.map((request) => ({ ...request, sampling: { ...request.sampling, maxTokens: 0 } }));
    const results = await runAll(tiny.engine, requests);
    for (const { id, tokens } of MIXED) {
      const { generated, end, logprobs, promptLogprobs } = results.get(id)!;
      expect([generated, end, logprobs, promptLogprobs!.length]).toEqual([[], 'length', [], tokens.length]);
      const expected = wanted.get(id)!.promptLogprobs!.map((entry) => entry?.logprob ?? 0);
      for (const [i, entry] of promptLogprobs!.entries()) expect(entry?.logprob ?? 0).toBeCloseTo(expected[i]!, 5);
    }
  });

  it('counts tokens for penalties: prompt and completion for repetition, the completion for the others', async () => {
    const tokens = [5, 5, 9];
    const variety = async (penalties: object): Promise<number[]> => {
      await using tiny = openTiny();
      const request = makeRequest(1, { tokens, maxTokens: 40, ...penalties });
      return [...(await runAll(tiny.engine, [request])).get(1)!.generated];
    };
    const unpenalised = await variety({});
    const favoured = await variety({ presencePenalty: -2, frequencyPenalty: -2 });
    expect(favoured).toEqual(favoured.map(() => unpenalised[0]!));
    const repetition = await variety({ repetitionPenalty: 100 });
    expect(new Set(repetition).size).toBeGreaterThan(new Set(unpenalised).size);
    expect(new Set(await variety({ frequencyPenalty: 2, presencePenalty: 2 })).size).toBeGreaterThan(new Set(unpenalised).size);
  });

  it('asks the mask before every token, with what was generated, and obeys', async () => {
    const allowed = [7, 11, 35];
    const seen: number[][] = [];
    const mask = (generated: readonly number[]): Uint32Array => {
      seen.push([...generated]);
      const bits = new Uint32Array(2);
      const id = allowed[generated.length]!;
      bits[id >> 5]! |= 1 << (id & 31);
      return bits;
    };
    await using tiny = openTiny();
    const results = await runAll(tiny.engine, [makeRequest(0, { maxTokens: 3, mask }), MIXED[3]!]);
    expect(results.get(0)!.generated).toEqual(allowed);
    expect(seen).toEqual([[], [7], [7, 11]]);
    expect(results.get(3)!.generated).toEqual((await alone).get(3)!.generated);
  });

  it('stop ends one sequence between sweeps, with what it has', async () => {
    await using tiny = openTiny({ gpuBatchSize: 2 });
    const stopped: (SequenceResult | undefined)[] = [];
    const outcomes = [];
    for await (const outcome of tiny.engine.run([makeRequest(0, { maxTokens: 50 }), makeRequest(1, { maxTokens: 5 })])) {
      outcomes.push(outcome);
      if (outcomes.length === 2) stopped.push(tiny.engine.stop(0), tiny.engine.stop(0), tiny.engine.stop(99));
    }
    expect(stopped.map((result) => result?.end)).toEqual(['stop', undefined, undefined]);
    expect(stopped[0]!.generated).toHaveLength(2);
    expect(outcomes).toHaveLength(5);
    expect([...resultsOf(outcomes).keys()]).toEqual([1]);
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
  });

  it('answers a pause, whether or not anything runs', async () => {
    await using tiny = openTiny({ device: nullDevice() });
    const inputs: EngineInput[] = ['pause', makeRequest(0, { maxTokens: 2 }), 'pause', makeRequest(1, { maxTokens: 2 }), 'pause'];
    const outcomes = await collect(tiny.engine.run(inputs));
    expect(outcomes.map(({ seconds, tokens }) => [seconds > 0, tokens.map(({ id }) => id)])).toEqual([
      [false, []],
      [true, [0]],
      [true, [0, 1]],
      [true, [1]],
    ]);
  });

  it('runs again after a run, and refuses two at once', async () => {
    await using tiny = openTiny();
    const first = tiny.engine.run(MIXED.slice(0, 4));
    await first.next();
    await expect(tiny.engine.run([]).next()).rejects.toThrow(UsageError);
    await first.return();
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
    const results = await runAll(tiny.engine, MIXED);
    for (const [id, wanted] of await alone) expect(plain(results.get(id)!)).toEqual(plain(wanted));
    expect(await collect(tiny.engine.run([]))).toEqual([]);
  });

  it('check says both numbers', async () => {
    await using tiny = openTiny({ device: nullDevice(), kvPages: [4] });
    await using small = openTiny({ device: nullDevice(), kvPages: [2] });
    const tokens = (count: number) => ({ tokens: new Int32Array(count) });
    expect(() => tiny.engine.check(tokens(0), 1)).toThrow(new RequestError('the prompt has no tokens'));
    expect(() => tiny.engine.check(tokens(256), 1)).toThrow("the prompt has 256 tokens, the model's context is 256");
    expect(() => tiny.engine.check(tokens(256), 0)).not.toThrow();
    expect(() => tiny.engine.check(tokens(255), 1)).not.toThrow();
    expect(() => small.engine.check(tokens(100), 29)).toThrow('the row needs 3 pages of KV cache, there are 2');
    expect(() => small.engine.check(tokens(100), 28)).not.toThrow();
    for (const id of [40, -1])
      expect(() => tiny.engine.check({ tokens: Int32Array.of(1, id) }, 1)).toThrow(`token id ${id} is not in the vocabulary of 40`);
  });
});

describe('numbers that are none', () => {
  it.each([
    ['blk.0.attn_q.weight', 0, 0, 'layer 0'],
    ['blk.1.ffn_down.bias', 3, 0, 'layer 1'],
    ['output_norm.weight', 2, 0, 'head'],
    ['token_embd.weight', 12 * 16 + 5, 2, 'embed'], // token 12; the head is tied to it, but the first layer counts
    ['position_embd.weight', (2 + 6) * 16, 1, 'embed'], // position 6
  ])('in %s are reported with row and layer', async (name, element, row, layer) => {
    await using tiny = openTiny({ weights: damagedWeights(name, element), gpuBatchSize: 2, numGpuBatches: 2 });
    const requests = [
      [1, 2, 3],
      [4, 5, 6, 1, 2, 3, 4],
      [1, 12],
      [3, 3],
    ].map((tokens, id) => makeRequest(id, { tokens }));
    const error: unknown = await runAll(tiny.engine, requests).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(NumericError);
    expect((error as NumericError).message).toMatch(/the result is not a number/);
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
    expect((error as NumericError).facts).toEqual({ row, layer });
  });

  it('are found in the chunk of a prompt where they began', async () => {
    await using tiny = openTiny({ weights: damagedWeights('token_embd.weight', 12 * 16), batchTokens: 8 });
    const long = makeRequest(1, { tokens: [5, 12, ...Array.from({ length: 20 }, () => 7)] });
    await expect(runAll(tiny.engine, [long])).rejects.toThrow(/row 1, embed: the result is not a number/);
  });
});
