import { describe, expect, it } from 'vitest';
import { Block } from '../../../src/engine/block.ts';
import { LengthEstimate } from '../../../src/engine/length-estimate.ts';
import { Sequence } from '../../../src/engine/sequence.ts';
import { PagePool } from '../../../src/kv/page-pool.ts';
import { PageTable } from '../../../src/kv/page-table.ts';
import { KvSequence } from '../../../src/kv/kv-cache.ts';
import { collect, makeRequest, openTiny, resultsOf, type TinyOptions } from '../../helpers/tiny-engine.ts';

/** Short rows teach the engine that answers are short; then come long ones. */
function* requests() {
  for (let id = 0; id < 20; id++) yield makeRequest(id, { tokens: 3 + (id % 4), maxTokens: 4 });
  for (let id = 20; id < 32; id++)
    yield makeRequest(id, { tokens: 10 + 3 * id, maxTokens: 120 + id, temperature: id % 2, logprobs: 2, seed: id });
}

async function run(options: TinyOptions) {
  await using tiny = openTiny({ gpuBatchSize: 6, numGpuBatches: 2, batchTokens: 32, ...options });
  const outcomes = await collect(tiny.engine.run(requests()));
  return { outcomes, results: resultsOf(outcomes), free: tiny.cache.availablePages, capacity: tiny.cache.capacityPages };
}

const promptTokens = ({ outcomes }: Awaited<ReturnType<typeof run>>): number =>
  outcomes.reduce((sum, outcome) => sum + outcome.promptTokens, 0);

describe('rows that grow longer than was thought', () => {
  it('give their room to older ones, are computed again, and end the same', async () => {
    const wide = await run({ kvPages: [100], sharePrefixes: false });
    const expected = [...wide.results].sort(([a], [b]) => a - b);
    for (const pages of [12, 16, 24]) {
      const tight = await run({ kvPages: [pages], sharePrefixes: false });
      expect([...tight.results].sort(([a], [b]) => a - b)).toEqual(expected);
      expect(tight.free).toBe(tight.capacity);
      // What is computed again is not counted again.
      expect(promptTokens(tight)).toBe(promptTokens(wide));
    }
  });

  it('do so with prefixes as well', async () => {
    const wide = await run({ kvPages: [100] });
    const tight = await run({ kvPages: [12] });
    expect([...tight.results].sort(([a], [b]) => a - b)).toEqual([...wide.results].sort(([a], [b]) => a - b));
  });

  it('happen: fewer pages than are reserved in the end, more rows than would have fitted', async () => {
    const sizes = { gpuBatchSize: 6, numGpuBatches: 2, batchTokens: 32, kvPages: [12], sharePrefixes: false };
    const most = async (reserveAll: boolean): Promise<number> => {
      await using tiny = openTiny({ ...sizes, reserveAll });
      const outcomes = await collect(tiny.engine.run(requests()));
      return Math.max(
        ...outcomes.filter(({ tokens }) => tokens.length > 0 && tokens.every(({ id }) => id >= 20)).map(({ running }) => running),
      );
    };
    expect(await most(false)).toBeGreaterThan(await most(true));
  });
});

describe('Block', () => {
  const pool = new PagePool(100);
  const sequence = (id: number): Sequence => {
    const table = PageTable.open({ memory: pool, pools: [pool] }, { positions: 64, window: Infinity, chunk: 1 })!;
    return new Sequence(makeRequest(id), new KvSequence([Infinity], [table], 0), 64);
  };

  it('preempts the youngest, has it come back before others, and never preempts the last one', () => {
    const block = new Block(2);
    const [a, b, c] = [sequence(1), sequence(2), sequence(3)];
    for (const each of [a, b, c]) block.enter(each, block.byLength()[0]!);
    expect(pool.available).toBe(97);
    expect([block.preemptYoungest(), block.preemptYoungest(), block.preemptYoungest()]).toEqual([c, b, undefined]);
    expect([pool.available, block.running, block.size, block.nextWaiting]).toEqual([99, 1, 3, b]);
    block.enter(b, block.byLength()[0]!);
    expect([block.nextWaiting, block.find(3)]).toEqual([c, c]);
    // It is as old as it was.
    expect(block.preemptYoungest()).toBe(b);
    expect(block.nextWaiting).toBe(b);
    block.leave(b);
    expect([block.size, block.nextWaiting]).toEqual([2, c]);
    block.clear();
    expect([block.size, pool.available]).toEqual([0, 100]);
  });
});

describe('LengthEstimate', () => {
  it('is the most until some rows are done, then their mean and twice their deviation', () => {
    const lengths = new LengthEstimate();
    for (let i = 0; i < 15; i++) lengths.add(i % 2 === 0 ? 90 : 110);
    expect(lengths.tokens(500)).toBe(500);
    lengths.add(110);
    expect(lengths.tokens(500)).toBe(120);
    expect(lengths.tokens(50)).toBe(50);
  });

  it('is never less than a few tokens', () => {
    const lengths = new LengthEstimate();
    for (let i = 0; i < 20; i++) lengths.add(1);
    expect(lengths.tokens(500)).toBe(16);
  });
});
