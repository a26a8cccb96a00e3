import { describe, expect, it } from 'vitest';
import { createPlan, type PlanOptions } from '../../../src/engine/execution-plan.ts';
import { GpuRanges, rangesOf, shareLayers } from '../../../src/llm/gpu-ranges.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { publishedConfig } from '../../../src/models/opt-sizes.ts';
import { SCRIPT_CAPABILITIES } from '../../../src/tensor/script-capabilities.ts';
import { MemoryError } from '../../../src/util/errors.ts';
import { dummyWeights } from '../../../src/weights/dummy-weights.ts';
import { placeWeights } from '../../../src/weights/placement.ts';
import { planWeights } from '../../../src/weights/weight-plan.ts';
import { seededRandom } from '../../helpers/mutate-file.ts';

const model = buildModel(publishedConfig('opt-1.3b')!, 'opt-1.3b');
const weights = planWeights(model, dummyWeights({ dtype: 'f16' }), SCRIPT_CAPABILITIES, 'auto');

function rangesFor(limits: readonly number[]) {
  const ranges = rangesOf(model, limits);
  return new GpuRanges({ model, rangeOf: (layer) => ranges[layer]!, limits });
}

function optionsFor(ranges: GpuRanges, count: number, numGpuBatches?: number): PlanOptions {
  const place = ranges.place((resident) => placeWeights(weights, { resident, held: 0 }));
  return {
    kvType: 'f16',
    weightBytes: weights.bytes,
    budgetBytes: ranges.budgetBytes,
    placeWeights: place,
    deviceCount: count,
    numGpuBatches,
  };
}

describe('GPUs that share layers', () => {
  const room = (freeBytes: number, isRam = false) => ({ freeBytes, isRam });
  const layersOf = (rooms: readonly ReturnType<typeof room>[], vramBytes?: number) => {
    const { used, ranges } = shareLayers(model, rooms, vramBytes);
    return used.map((gpu, i) => [gpu, ranges.filter((range) => range === i).length]);
  };

  it('are all that have enough memory, each by what may be used of it', () => {
    expect(layersOf([room(8e9), room(8e9)])).toEqual([
      [0, 13],
      [1, 13],
    ]);
    expect(layersOf([room(24e9), room(8e9)], 8e9)).toEqual(layersOf([room(8e9), room(8e9)]));
    expect(layersOf([room(8e9), room(200e6)])).toEqual([[0, 26]]);
    expect(layersOf([room(200e6), room(8e9)])).toEqual([[1, 26]]);
    expect(layersOf([room(24e9), room(600e6), room(24e9)]).map(([gpu]) => gpu)).toEqual([0, 2]);
    expect(layersOf([room(0), room(0)])).toEqual([[0, 26]]);
  });

  it('are none without memory of their own beside others that have some', () => {
    expect(layersOf([room(16e9, true), room(8e9)])).toEqual([[1, 26]]);
    expect(layersOf([room(16e9, true), room(16e9, true)]).map(([gpu]) => gpu)).toEqual([0, 1]);
  });
});

describe('plans for several GPUs', () => {
  it('fit on each of them, whatever their sizes, and use most of what the fullest has', () => {
    const random = seededRandom(7);
    let partly = 0;
    for (let i = 0; i < 60; i++) {
      const limits = Array.from({ length: 2 + random(3) }, () => 900e6 + random(2e9));
      const ranges = rangesFor(limits);
      const options = optionsFor(ranges, limits.length, 1 + random(3));
      const plan = ranges.fit(options, (each) => createPlan(model, each));
      const shares = ranges.needs(plan, options).map((bytes, gpu) => bytes / limits[gpu]!);
      expect(Math.max(...shares)).toBeLessThanOrEqual(1);
      if (plan.weights.share === 1) continue;
      partly++;
      expect(Math.max(...shares)).toBeGreaterThan(0.7);
    }
    expect(partly).toBeGreaterThan(5);
  });

  it('count what each GPU has for itself', () => {
    const [one, two] = [rangesFor([4e9]), rangesFor([4e9, 4e9])];
    const plans = [one, two].map((ranges, i) => ranges.fit(optionsFor(ranges, i + 1), (each) => createPlan(model, each)));
    expect(plans[1]!.bytes.hidden).toBe(2 * plans[0]!.bytes.hidden);
    expect(plans[1]!.bytes.scratch).toBe(2 * plans[0]!.bytes.scratch);
    expect(plans[1]!.bytes.logits).toBe(plans[0]!.bytes.logits);
  });

  it('are refused where one of them has too little', () => {
    const ranges = rangesFor([100e6, 100e6]);
    expect(() => ranges.fit(optionsFor(ranges, 2), (each) => createPlan(model, each))).toThrow(MemoryError);
    const roomy = rangesFor([3e9, 3e9]);
    const options = optionsFor(roomy, 2);
    const plan = roomy.fit(options, (each) => createPlan(model, each));
    const narrow = rangesFor([3e9, 1e9]);
    expect(() => narrow.check(plan, options)).toThrow(/^GPU 1 of 2: its \d+ layers need [\d.]+ GB, [\d.]+ GB may be used/);
  });
});
