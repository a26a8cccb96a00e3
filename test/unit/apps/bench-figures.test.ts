import { describe, expect, it } from 'vitest';
import { decodeSweeps, figuresOf, projectSeconds } from '../../../src/apps/bench-figures.ts';
import { logBlock, logName } from '../../../src/apps/bench-log.ts';
import { benchSizes } from '../../../src/apps/bench-sizes.ts';
import { modelShape } from '../../../src/llm/model-shape.ts';
import { publishedConfig } from '../../../src/models/opt-sizes.ts';
import { buildModel } from '../../../src/models/registry.ts';

const TASK = { gpuBatchSize: 4, numGpuBatches: 2, promptTokens: 512, newTokens: 32 };
const shapeOf = (name: string) => modelShape({ model: buildModel(publishedConfig(name), name), stopIds: new Set([2]) });

describe('figures', () => {
  it('are tokens of all rows by the seconds of each phase', () => {
    const decodeSeconds = Array.from({ length: 31 }, () => 0.5);
    const figures = figuresOf(TASK, { prefillSeconds: 4, prefillGenerated: 8, decodeSeconds });
    expect(figures).toEqual({
      projected: false,
      seconds: { prefill: 4, decode: 15.5, total: 19.5 },
      tokensPerSecond: { prefill: (8 * 512) / 4, decode: (8 * 31) / 15.5, total: (8 * 32) / 19.5 },
    });
  });

  it('do not count a token twice that came while other prompts were computed', () => {
    const { tokensPerSecond } = figuresOf({ ...TASK, newTokens: 3 }, { prefillSeconds: 4, prefillGenerated: 14, decodeSeconds: [1, 1] });
    expect(tokensPerSecond).toEqual({ prefill: 1024, decode: 5, total: 4 });
  });

  it('of one new token have no decoding', () => {
    const { seconds, tokensPerSecond } = figuresOf(
      { ...TASK, newTokens: 1 },
      { prefillSeconds: 2, prefillGenerated: 8, decodeSeconds: [] },
    );
    expect([seconds.decode, tokensPerSecond.decode, tokensPerSecond.total]).toEqual([0, 0, 4]);
  });

  it.each([
    ['the mean of those behind the first two', [5, 4, 1, 2, 3], 31, 5 + 4 + 2 * 29],
    ['the mean of two where there are no others', [4, 2], 31, 4 + 2 + 3 * 29],
    ['one as often as it is wanted', [4], 31, 4 * 31],
  ])('are projected with %s', (_what, costs, sweeps, seconds) => {
    expect(projectSeconds(costs, sweeps)).toBeCloseTo(seconds, 10);
    const { projected, seconds: found } = figuresOf(TASK, { prefillSeconds: 1, prefillGenerated: 8, decodeSeconds: costs });
    expect([projected, found.decode]).toEqual([true, expect.closeTo(seconds, 10)]);
  });

  it('are projected only where something was cut', () => {
    expect(decodeSweeps({ ...TASK, cutTokens: 5 })).toBe(4);
    expect(decodeSweeps({ ...TASK, cutTokens: 40 })).toBe(31);
    expect(decodeSweeps(TASK)).toBe(31);
  });
});

describe('sizes', () => {
  // The published table of model sizes in GiB.
  it.each([
    ['opt-125m', 0.23],
    ['opt-1.3b', 2.443],
    ['opt-6.7b', 12.386],
    ['opt-30b', 55.803],
    ['galactica-30b', 55.8],
    ['opt-175b', 325.175],
  ])('of %s are the published ones', (name, gib) => {
    expect(benchSizes('opt', shapeOf(name), TASK).model / 2 ** 30).toBeCloseTo(gib, 3);
  });

  it('of the cache and the hidden states are those of all rows', () => {
    const { cache, hidden } = benchSizes('opt', shapeOf('opt-30b'), { ...TASK, gpuBatchSize: 48, numGpuBatches: 3 });
    expect(cache / 2 ** 30).toBeCloseTo(100.4, 1);
    expect(hidden).toBe(2 * 144 * 544 * 7168);
  });
});

describe('logs', () => {
  const parts = { ...TASK, model: 'facebook/opt-6.7b', percent: [100, 0, 100, 0, 100, 0] };
  const flags = { cpuCacheCompute: false, compressWeight: false, compressCache: false };
  it.each([
    [flags, 'gpu-cache.log'],
    [{ cpuCacheCompute: true, compressWeight: true, compressCache: true }, 'cpu-cache-compw-compc.log'],
  ])('have a name of the flags', (given, end) => {
    expect(logName({ ...parts, ...given })).toBe(`fo-6.7b-gbs4-ngbs2-prompt512-gen32-percent-100-0-100-0-100-0-${end}`);
  });

  it('have five lines in the form that other programs read', () => {
    const sizes = { model: 2 ** 30 * 12.386, cache: 2 ** 30 * 1.0625, hidden: 2 ** 20 * 17 };
    const figures = {
      projected: true,
      seconds: { prefill: 1.5, decode: 10, total: 11.5 },
      tokensPerSecond: { prefill: 1365.3333, decode: 12.4, total: 11.13043 },
    };
    expect(logBlock(sizes, 2 ** 31, figures)).toBe(
      'model size: 12.386 GB\tcache size: 1.063 GB\thidden size (p): 0.017 GB\n' +
        'peak gpu mem: 2.000 GB\tprojected: True\n' +
        'prefill latency: 1.500 s\tprefill throughput: 1365.333 token/s\n' +
        'decode latency: 10.000 s\tdecode throughput: 12.400 token/s\n' +
        'total latency: 11.500 s\ttotal throughput: 11.130 token/s\n',
    );
  });
});
