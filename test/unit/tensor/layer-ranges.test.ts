/** The truth is the same engine on one device: the reference computes all layers, so not a bit may differ. */
import { describe, expect, it } from 'vitest';
import { rangesOf } from '../../../src/llm/gpu-ranges.ts';
import type { Device } from '../../../src/tensor/device.ts';
import { LayerRanges } from '../../../src/tensor/layer-ranges.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import { collect, deeperModel, makeRequest, openTiny, resultsOf, type TinyOptions } from '../../helpers/tiny-engine.ts';

const REQUESTS = [3, 70, 1, 20, 64, 5].map((tokens, id) => makeRequest(id, { tokens, maxTokens: 6 + id, logprobs: 1 }));

const model = () => deeperModel();

/** Fractions of the layers, by what is free. */
function joined(
  free: readonly number[],
  lanes?: LaneLog,
  devices: readonly Device[] = free.map(() => createReferenceDevice()),
): LayerRanges {
  return new LayerRanges({ devices, ranges: rangesOf(model(), free), lanes });
}

async function answers(options: TinyOptions) {
  await using tiny = openTiny({ model: model(), ...options });
  const results = resultsOf(await collect(tiny.engine.run(REQUESTS)));
  return [...results].map(([id, { generated, logprobs }]) => [id, generated, logprobs]);
}

describe('layers of several devices', () => {
  it.each([
    ['on two', [1, 1], {}],
    ['on two of different sizes', [5, 1], { numGpuBatches: 2, gpuBatchSize: 3 }],
    ['on three, with chunks of prompts', [1, 1, 1], { gpuBatchSize: 2, numGpuBatches: 3, batchTokens: 16, sweepChunks: 2 }],
    ['on more than there are layers', [1, 1, 1, 1, 1, 1, 1, 1], {}],
    ['with weights in passing', [1, 1], { weightShare: 0.4 }],
    ['with all weights in passing through two slots', [1, 1, 1], { weightShare: 0, slots: 2 }],
    ['with the cache beside them', [1, 1], { attending: createReferenceDevice(), numGpuBatches: 2, gpuBatchSize: 3 }],
  ] as const)('change no bit %s', async (_what, free, options) => {
    const wanted = await answers({ gpuBatchSize: 6, ...options });
    await using device = joined(free);
    expect(await answers({ gpuBatchSize: 6, ...options, device })).toEqual(wanted);
  });

  it('hand on hidden states where a range ends, and nothing else', async () => {
    const lanes = new LaneLog({ keepEvents: 10_000 });
    await using device = joined([1, 1], lanes);
    await answers({ gpuBatchSize: 6, device, lanes });
    const tokens = REQUESTS.reduce((sum, request) => sum + request.tokens.length + request.sampling.maxTokens - 1, 0); // the last token is not computed
    const totals = new Map(lanes.totals().map(({ lane, bytes }) => [lane, bytes]));
    expect(totals.get('download')).toBe(4 * tokens * model().hiddenSize);
    expect(totals.get('upload')).toBe(totals.get('download'));
  });

  it('have their cache where they are computed', async () => {
    const devices = [createReferenceDevice(), createReferenceDevice()];
    await using device = joined([1, 1], undefined, devices);
    const before = devices.map((each) => each.memory().usedBytes);
    await using tiny = openTiny({ model: model(), device });
    void tiny;
    const used = devices.map((each, i) => each.memory().usedBytes - before[i]!);
    expect(Math.min(...used) / Math.max(...used)).toBeGreaterThan(0.3);
    expect(device.memory().usedBytes).toBe(used[0]! + used[1]!);
  });

  it('end with the error of either, and free what they had', async () => {
    for (const bad of [0, 1]) {
      let runs = 0;
      const failing = new Proxy(createReferenceDevice(), {
        get(target, key) {
          if (key === 'run' && runs++ > 7) return () => Promise.reject(new Error('it is gone'));
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
      const devices = [0, 1].map((i) => (i === bad ? failing : createReferenceDevice()));
      await using device = joined([1, 1], undefined, devices);
      await expect(answers({ gpuBatchSize: 6, device })).rejects.toThrow('it is gone');
      expect(devices.map((each) => each.memory().usedBytes)).toEqual([0, 0]);
    }
  });
});

describe('ranges of layers', () => {
  const sizes = (free: readonly number[]) => {
    const ranges = rangesOf(model(), free);
    return free.map((_, gpu) => ranges.filter((range) => range === gpu).length);
  };

  it('follow each other, in proportion to what is free', () => {
    // A table of 70 + 258 rows, four layers of 3,300 numbers, and the table of 70 again.
    expect(rangesOf(model(), [1, 1])).toEqual([0, 0, 1, 1, 1, 1]);
    expect(sizes([3, 1])[0]).toBeGreaterThan(sizes([1, 1])[0]!);
    for (const free of [[1], [1, 1, 1], [9, 1], [1, 9], [1, 2, 3, 4]]) {
      const ranges = rangesOf(model(), free);
      expect(ranges).toEqual(ranges.toSorted((a, b) => a - b));
      expect(Math.max(...ranges)).toBeLessThan(free.length);
    }
  });

  it('leave out what has no room', () => {
    expect(sizes([0, 1])).toEqual([0, 6]);
    expect(sizes([1, 0])).toEqual([6, 0]);
  });
});
