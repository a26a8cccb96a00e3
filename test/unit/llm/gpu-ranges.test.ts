import { describe, expect, it } from 'vitest';
import { createPlan, type PlanOptions } from '../../../src/engine/execution-plan.ts';
import { GpuRanges, rangesOf } from '../../../src/llm/gpu-ranges.ts';
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
  return new GpuRanges({ model, rangeOf: (layer) => ranges[layer]!, weights, limits });
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
    expect(() => narrow.check(plan, options)).toThrow(/^GPU \d: its \d+ layers need [\d.]+ GB, [\d.]+ GB may be used/);
  });
});
