import { describe, expect, it } from 'vitest';
import { besideBytes, crossingBytes } from '../../../src/engine/buffer-bytes.ts';
import { cacheOf } from '../../../src/engine/cache-homes.ts';
import { createPlan } from '../../../src/engine/execution-plan.ts';
import { checkPlan } from '../../../src/engine/given-plan.ts';
import { type HostOptions, HostPlanner } from '../../../src/engine/host-plan.ts';
import { parsePlan } from '../../../src/engine/plan-file.ts';
import { MemoryError, UsageError } from '../../../src/util/errors.ts';
import type { TierShares, WeightPlacement } from '../../../src/weights/placement.ts';
import { tinyModel } from '../../helpers/tiny-engine.ts';

const model = tinyModel();

/** Where weights of 100 layers of 1 MB would lie. */
const place = ({ resident, held }: TierShares): WeightPlacement => ({
  layers: [],
  residentBytes: Math.round(100e6 * resident),
  heldBytes: Math.round(100e6 * held),
  uploadedBytes: Math.round(100e6 * held),
  streamedBytes: Math.round(100e6 * (1 - resident - held)),
  slotBytes: Math.round(1e6 * (1 - resident)),
});

const ROOMY: HostOptions = { place, budgetBytes: 1e9, stagingBytes: 2e6 };
const gpu = { kvType: 'f32', weightBytes: 100e6, gpuBatchSize: 4, memoryName: 'GPU memory', programBytes: 0 } as const;

const NOTHING_BESIDE = { kv: 0, staged: 0, scratch: 0 };

/** As LLM.load plans it. */
function planWith(vram: number, host: HostOptions, weightShare?: number) {
  const planner = new HostPlanner(host);
  const plan = createPlan(model, { ...gpu, budgetBytes: vram, placeWeights: planner.place, weightShare });
  return { ...plan, host: planner.plan(plan.weights.share) };
}

describe('a plan with a GPU', () => {
  it('keeps all weights on it where they fit beside a good cache', () => {
    const { weights, host, bytes } = planWith(1e9, ROOMY);
    expect(weights).toEqual({ share: 1, slots: 0, streamedBytes: 0 });
    expect(host).toEqual({ share: 0, uploadedBytes: 0, bytes: { weights: 0, staging: 2e6, ...NOTHING_BESIDE, program: 0, total: 2e6 } });
    expect(bytes).toMatchObject({ weights: 100e6, staging: 0, program: 0 });
  });

  it('otherwise fills the GPU first, then RAM, and leaves the rest on disk', () => {
    for (const vram of [90e6, 60e6, 30e6])
      for (const ram of [1e9, 50e6, 20e6, 2e6]) {
        const { weights, host, bytes } = planWith(vram, { ...ROOMY, budgetBytes: ram });
        expect(weights.slots).toBe(3);
        expect(bytes.total).toBeLessThanOrEqual(vram);
        expect(host.bytes.total).toBeLessThanOrEqual(ram);
        expect(bytes.weights).toBe(Math.round(100e6 * weights.share));
        expect(host.bytes.weights).toBe(Math.round(100e6 * host.share));
        // Another thousandth of the weights would not fit, or there is none.
        const rest = 1 - weights.share - host.share;
        expect(Math.min(rest, (ram - host.bytes.total) / 100e6)).toBeLessThan(0.001 + 1e-9);
        expect(weights.streamedBytes).toBe(Math.round(100e6 * rest));
        expect(bytes.ring).toBe(3 * Math.round(1e6 * (1 - weights.share)));
      }
  });

  it('decides the share on the GPU by its memory alone', () => {
    const shares = [1e9, 40e6, 2e6].map((budgetBytes) => planWith(60e6, { ...ROOMY, budgetBytes }).weights.share);
    expect(new Set(shares).size).toBe(1);
    expect(shares[0]).toBeGreaterThan(0.2);
  });

  it('holds no more in RAM than it may unasked, but what is asked for', () => {
    const limited = { ...ROOMY, mostHeldBytes: 10e6 };
    expect(planWith(60e6, limited).host.share).toBeCloseTo(0.1);
    expect(planWith(60e6, { ...limited, mostHeldBytes: 0 }).host.share).toBe(0);
    expect(planWith(60e6, { ...limited, share: 0.3 }, 0.2).host.share).toBe(0.3);
  });

  it('obeys shares that were asked for', () => {
    const { weights, host } = planWith(1e9, { ...ROOMY, share: 0.3 }, 0.2);
    expect(weights).toEqual({ share: 0.2, slots: 3, streamedBytes: 50e6 });
    expect(host).toMatchObject({ share: 0.3, uploadedBytes: 30e6, bytes: { weights: 30e6 } });
  });

  it('refuses what the GPU has no room for, with the largest items and what would fit', () => {
    const plan = () => planWith(60e6, ROOMY, 0.9);
    expect(plan).toThrow(MemoryError);
    expect(plan).toThrow(
      /of GPU memory, 60\.0 MB may be used; largest: weights 90\.0 MB, .*, .*\. At most 5\d percent of the weights fit\. /,
    );
    expect(() => planWith(1e6, ROOMY)).toThrow(/^the model needs .* of GPU memory, 1\.00 MB may be used; largest: /);
  });

  it('refuses what RAM has no room for, with the largest items and what would fit', () => {
    const plan = () => planWith(60e6, { ...ROOMY, share: 0.8, programBytes: 5e6, budgetBytes: 50e6 }, 0.2);
    expect(plan).toThrow(MemoryError);
    expect(plan).toThrow(
      'the model needs 87.0 MB of RAM beside the GPU, 50.0 MB may be used; largest: weights 80.0 MB, the program itself 5.00 MB, ' +
        'buffers of reads 2.00 MB. At most 43 percent of the weights fit into RAM',
    );
    expect(() => planWith(1e9, { ...ROOMY, programBytes: 5e6, budgetBytes: 6e6 })).toThrow(/At least 7\.00 MB are needed/);
  });
});

describe('a plan with the cache in RAM beside the GPU', () => {
  const planBeside = (cacheBesideBytes: number, budgetBytes: number, changes: object = {}) => {
    const planner = new HostPlanner({ ...ROOMY, budgetBytes, besideBytes: cacheBesideBytes + crossingBytes(model, 512).attending });
    const options = { ...gpu, budgetBytes: 60e6, placeWeights: planner.place, cacheBesideBytes, ...changes };
    const plan = createPlan(model, options);
    const beside = besideBytes(model, plan, cacheOf(model, plan.kvType, plan.kvPages, plan.kvDisk));
    return { plan: { ...plan, host: planner.plan(plan.weights.share, beside) }, planner, options };
  };

  it('takes nothing of the GPU for it but what goes to attention and comes back, and has two micro-batches', () => {
    const { plan } = planBeside(1e6, 20e6);
    expect(plan.bytes).toMatchObject({ kv: 0, staged: 0 });
    expect(plan.numGpuBatches).toBeGreaterThanOrEqual(2);
    expect(plan.host.bytes.kv).toBeGreaterThan(0);
    expect(plan.host.bytes.kv).toBeLessThanOrEqual(1e6);
    expect(plan.host.bytes.scratch).toBe(crossingBytes(model, plan.batchTokens).attending);
    expect(plan.bytes.total).toBeLessThanOrEqual(60e6);
    // Weights leave the room that the cache may take.
    expect(plan.host.bytes.weights).toBeGreaterThan(15e6);
    expect(plan.host.bytes.weights + plan.host.bytes.staging).toBeLessThanOrEqual(19e6);
  });

  it('has hidden states of more micro-batches only where weights leave room on the GPU', () => {
    const most = planBeside(1e6, 1e9, { weightShare: 0.3 }).plan;
    const states = most.numGpuBatches * most.sweepChunks;
    expect([most.numGpuBatches, states]).toEqual([4, 8]);
    const budgetBytes = most.bytes.total - (states - 3) * 4 * model.hiddenSize * most.batchTokens;
    const few = planBeside(1e6, 1e9, { weightShare: 0.3, budgetBytes }).plan;
    expect([few.numGpuBatches, few.sweepChunks]).toEqual([3, 1]);
    expect(few.bytes.total).toBeLessThanOrEqual(budgetBytes);
  });

  it('is refused where RAM has no room for it, with what would help', () => {
    expect(() => planBeside(1000, 1e9)).toThrow(
      /^the KV cache of 1024 positions takes .* of RAM beside the GPU, 1\.00 kB are left for it there\. A larger --mem/,
    );
    expect(() => planBeside(1e6, 1e9, { budgetBytes: 1e5 })).toThrow(/of GPU memory, 100 kB may be used/);
  });

  it('runs where it was made, and is refused where the cache lies on the GPU', () => {
    const { plan, planner, options } = planBeside(1e6, 20e6);
    const given = parsePlan('p', JSON.parse(JSON.stringify(plan)));
    const check = (changes: object) => checkPlan(model, given, { ...options, numGpuBatches: undefined, host: planner, ...changes });
    expect(check({})).toEqual(plan);
    expect(() => check({ cacheBesideBytes: undefined })).toThrow(UsageError);
  });
});

describe('such a plan, given', () => {
  const made = planWith(60e6, { ...ROOMY, budgetBytes: 40e6 });
  const { host } = made;
  const check = (changes: object, hostChanges: Partial<HostOptions> = {}, more: object = {}) => {
    const planner = new HostPlanner({ ...ROOMY, budgetBytes: 40e6, share: host.share, ...hostChanges });
    const plan = parsePlan('p', JSON.parse(JSON.stringify({ ...made, ...changes })));
    return checkPlan(model, plan, { ...gpu, budgetBytes: 60e6, placeWeights: planner.place, host: planner, ...more });
  };

  it('runs where it was made, with the memory of the program as it is now', () => {
    expect(check({})).toEqual(made);
    expect(check({}, { programBytes: 1e6, budgetBytes: 1e9 }).host!.bytes).toEqual({
      ...host.bytes,
      program: 1e6,
      total: host.bytes.total + 1e6,
    });
  });

  it.each<[string, object, Partial<HostOptions>, object, string]>([
    ['without its RAM', { host: undefined }, {}, {}, 'plan: host: RAM beside a GPU expected'],
    ['without a GPU', {}, {}, { host: undefined }, 'plan: host: nothing expected'],
    ['with another share', {}, {}, { heldShare: 0.123 }, 'plan: host.share: 0.123 expected'],
    ['with other buffers', {}, { stagingBytes: 7 }, {}, 'plan: host.bytes.staging: 7 expected'],
    ['with other bytes', { host: { ...host, bytes: { ...host.bytes, weights: 5 } } }, {}, {}, 'plan: host.bytes.weights: '],
    ['with other copies', { host: { ...host, uploadedBytes: 5 } }, {}, {}, 'plan: host.uploadedBytes: '],
    ['in less RAM', {}, { budgetBytes: 30e6 }, {}, 'of RAM, at most 30.0 MB may be used'],
  ])('is refused %s', (_what, changes, hostChanges, more, message) => {
    expect(() => check(changes, hostChanges, more)).toThrow(UsageError);
    expect(() => check(changes, hostChanges, more)).toThrow(message);
  });

  it.each([
    ['that is none', 7, 'host: an object expected, got 7'],
    ['of more than all', { ...host, share: 2 }, 'host.share: a number from 0 to 1 expected, got 2'],
    ['without bytes', { share: 0, uploadedBytes: 0 }, 'host.bytes: an object expected, got nothing'],
    ['of half a byte', { ...host, uploadedBytes: 0.5 }, 'host.uploadedBytes: a whole number'],
  ])('is no plan with RAM %s', (_what, wrong, message) => {
    expect(() => parsePlan('p', JSON.parse(JSON.stringify({ ...made, host: wrong })))).toThrow(message);
  });
});
