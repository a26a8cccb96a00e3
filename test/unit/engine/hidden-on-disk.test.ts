/** Hidden states of micro-batches rest on disk between two layers: tokens and log-probabilities are the same. */
import { describe, expect, it } from 'vitest';
import { hiddenFileBytes } from '../../../src/engine/hidden-states.ts';
import { SpillFile } from '../../../src/native/spill-file.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import { makeRequest, openTiny, runAll, type TinyOptions } from '../../helpers/tiny-engine.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

const REQUESTS = Array.from({ length: 9 }, (_, id) =>
  makeRequest(id, { tokens: 5 + 11 * id, maxTokens: 4, logprobs: 2, promptLogprobs: 1 }),
);
const BLOCK = { gpuBatchSize: 2, numGpuBatches: 5, batchTokens: 40, sharePrefixes: false } as const;

async function run(onDisk: number, options: TinyOptions = {}): Promise<unknown> {
  await using temporary = await makeTemporaryFolder();
  const sizes = { count: 5 * (options.sweepChunks ?? 1), onDisk, tokens: 40, hiddenSize: 16 };
  await using file = await SpillFile.create(temporary.path, Math.max(1, hiddenFileBytes(sizes)), false);
  await using tiny = openTiny({ ...BLOCK, hiddenOnDisk: onDisk, hiddenFile: file, ...options });
  return await runAll(tiny.engine, REQUESTS);
}

const movedBytes = (lanes: LaneLog): number[] =>
  (['disk read', 'disk write'] as const).map((name) => lanes.totals().find(({ lane }) => lane === name)!.bytes);

describe('hidden states on disk', () => {
  it.each([1, 3, 4, 5])('of %d of 5 micro-batches', async (onDisk) => {
    const lanes = new LaneLog();
    expect(await run(onDisk, { lanes })).toEqual(await run(0));
    // Three have slots of their own.
    const moved = movedBytes(lanes);
    expect(moved.map((bytes) => bytes > 0)).toEqual([onDisk > 3, onDisk > 3]);
    expect(moved[0]).toBe(moved[1]);
  });

  it('of all chunks of a sweep', async () => {
    const lanes = new LaneLog();
    expect(await run(10, { sweepChunks: 2, lanes })).toEqual(await run(0, { sweepChunks: 2 }));
    expect(movedBytes(lanes)[0]).toBeGreaterThan(0);
  });

  it.each(['read', 'write'] as const)('says that a %s has failed, and runs again', async (what) => {
    await using temporary = await makeTemporaryFolder();
    await using file = await SpillFile.create(temporary.path, 1 << 20, false);
    let fails = true;
    const failing = new Proxy(file, {
      get: (target, key) => {
        const value: unknown = Reflect.get(target, key, target);
        if (key === what && fails) return () => Promise.reject(new Error(`no ${what}`));
        return typeof value === 'function' ? value.bind(target) : value;
      },
    });
    await using tiny = openTiny({ ...BLOCK, hiddenOnDisk: 5, hiddenFile: failing });
    await expect(runAll(tiny.engine, REQUESTS)).rejects.toThrow(`no ${what}`);
    fails = false;
    expect(await runAll(tiny.engine, REQUESTS)).toEqual(await run(0));
  });
});
