import { describe, expect, it } from 'vitest';
import { buildModel } from '../../../src/models/registry.ts';
import { byteLengthOf, elementCount } from '../../../src/tensor/dtype.ts';
import { dummyWeights } from '../../../src/weights/dummy-weights.ts';
import { placeWeights, type TierShares } from '../../../src/weights/placement.ts';
import { assignSlots } from '../../../src/weights/stream-slots.ts';
import { planWeights } from '../../../src/weights/weight-plan.ts';

const CONFIGS = {
  llama: { model_type: 'llama', num_hidden_layers: 5, hidden_size: 512, intermediate_size: 1376, num_attention_heads: 8, vocab_size: 2000 },
  opt: { model_type: 'opt', num_hidden_layers: 3, hidden_size: 256, ffn_dim: 1024, num_attention_heads: 4, vocab_size: 3000 },
  mixtral: {
    model_type: 'mixtral',
    num_hidden_layers: 2,
    hidden_size: 256,
    intermediate_size: 512,
    num_attention_heads: 4,
    num_key_value_heads: 4,
    num_local_experts: 8,
    vocab_size: 1000,
  },
} as const;
const CAPABILITIES = { exactWeights: ['f32', 'f16'], weights: ['f32', 'f16'] } as const;

const planOf = (name: keyof typeof CONFIGS) =>
  planWeights(
    buildModel(CONFIGS[name], name),
    dummyWeights({ dtype: (spec) => (spec.role === 'vector' ? 'f32' : 'f16') }),
    CAPABILITIES,
    'auto',
  );

describe('placeWeights', () => {
  it.each(['llama', 'opt', 'mixtral'] as const)('covers every row of %s once, resident rows first, whatever the share', (name) => {
    const plan = planOf(name);
    for (const share of [0, 0.01, 0.2, 0.37, 0.5, 0.99, 1]) {
      const { layers, residentBytes, slotBytes } = placeWeights(plan, share);
      for (const [i, weights] of plan.layers.entries())
        for (const weight of weights) {
          const parts = [...layers[i]!.resident, ...layers[i]!.streamed].filter((rows) => rows.weight === weight);
          // Each begins where the one before ends.
          expect([0, ...parts.map(({ to }) => to)]).toEqual([...parts.map(({ from }) => from), weight.spec.shape[0]]);
          for (const { from, to, byteLength } of parts)
            expect(byteLength).toBe(
              byteLengthOf(weight.deviceType, ((to - from) * elementCount(weight.spec.shape)) / weight.spec.shape[0]!),
            );
        }
      expect(slotBytes === 0).toBe(share === 1);
      const kept = [...new Set(layers.flatMap(({ resident }) => resident))].reduce((sum, { byteLength }) => sum + byteLength, 0);
      expect(kept === plan.bytes).toBe(share === 1);
      expect(residentBytes).toBeGreaterThanOrEqual(kept);
    }
  });

  it.each(['llama', 'opt', 'mixtral'] as const)('keeps the share of every layer of %s, to a panel of 32 rows or an expert', (name) => {
    const plan = planOf(name);
    for (const share of [0.1, 0.2, 0.55, 0.9])
      for (const [i, { resident }] of placeWeights(plan, share).layers.entries()) {
        const large = plan.layers[i]!.filter(({ spec }) => spec.role === 'matrix' || spec.role === 'table');
        const all = large.reduce((sum, { byteLength }) => sum + byteLength, 0);
        const kept = resident.filter(({ weight }) => large.includes(weight)).reduce((sum, { byteLength }) => sum + byteLength, 0);
        const steps = large.map(({ spec, byteLength }) => byteLength / (spec.stack?.count ?? Math.max(1, spec.shape[0]! / 64)));
        expect(Math.abs(kept - share * all), `${name}, layer ${i}, ${share}`).toBeLessThanOrEqual(Math.max(...steps));
      }
  });

  it('cuts stacks between experts, and neither them nor tables where a device looks rows up in one piece', () => {
    const plan = planOf('mixtral');
    const cuts = (split: boolean) =>
      placeWeights(plan, 0.3, { splitLookups: split, paddingBytes: 0 })
        .layers.flatMap(({ resident }) => resident)
        .filter(({ weight, to }) => to < weight.spec.shape[0]!);
    const stacks = cuts(true).filter(({ weight }) => weight.spec.stack);
    expect(stacks.length).toBeGreaterThan(0);
    for (const { weight, to } of stacks) expect(to % (weight.spec.shape[0]! / 8)).toBe(0);
    expect(cuts(false).some(({ weight }) => weight.spec.stack !== undefined || weight.spec.role === 'table')).toBe(false);
  });

  it('keeps vectors and routers even with a share of 0', () => {
    const { layers } = placeWeights(planOf('mixtral'), 0);
    for (const { resident, streamed } of layers) {
      for (const { weight } of resident) expect(['vector', 'router']).toContain(weight.spec.role);
      for (const { weight } of streamed) expect(['vector', 'router']).not.toContain(weight.spec.role);
    }
  });

  it('has a tied weight once in memory, and reads its rest for both layers', () => {
    const plan = planOf('opt');
    const { layers } = placeWeights(plan, 0.5);
    const [table] = plan.layers[0]!;
    const parts = [layers[0]!, layers.at(-1)!].map(({ resident }) => resident.find(({ weight }) => weight === table));
    expect(parts[0]).toBeDefined();
    expect(parts[0]).toBe(parts[1]);
    expect(layers.at(-1)!.streamed.some(({ weight }) => weight === table)).toBe(layers[0]!.streamed.some(({ weight }) => weight === table));
  });
});

const THREE: readonly TierShares[] = [
  { resident: 0, held: 1 },
  { resident: 0.5, held: 0.5 },
  { resident: 0.2, held: 0.3 },
  { resident: 0.34, held: 0.01 },
  { resident: 0, held: 0.1 },
];

describe('placeWeights, in three tiers', () => {
  it.each(['llama', 'opt', 'mixtral'] as const)('covers every row of %s once: device, RAM, disk', (name) => {
    const plan = planOf(name);
    for (const shares of THREE)
      for (const splitLookups of [true, false]) {
        const { layers, heldBytes, uploadedBytes, streamedBytes, slotBytes } = placeWeights(plan, shares, {
          splitLookups,
          paddingBytes: 7,
        });
        const copied = layers.flatMap(({ streamed }) => streamed.filter(({ held }) => held));
        const read = layers.flatMap(({ streamed }) => streamed.filter(({ held }) => !held));
        for (const [i, weights] of plan.layers.entries())
          for (const weight of weights) {
            const parts = [...layers[i]!.resident, ...layers[i]!.streamed].filter((rows) => rows.weight === weight);
            expect([0, ...parts.map(({ to }) => to)]).toEqual([...parts.map(({ from }) => from), weight.spec.shape[0]]);
            const tiers = parts.map((rows) => (layers[i]!.resident.includes(rows) ? 'device' : 'held' in rows ? 'RAM' : 'disk'));
            expect(tiers).toEqual((['device', 'RAM', 'disk'] as const).filter((tier) => tiers.includes(tier)));
          }
        for (const { held, from, to, byteLength } of copied) expect(held).toMatchObject({ from, to, byteLength });
        const kept = new Set(copied.map(({ held }) => held!));
        expect(heldBytes).toBe([...kept].reduce((sum, { placedBytes }) => sum + placedBytes, 0));
        expect([uploadedBytes, streamedBytes]).toEqual([copied, read].map((all) => all.reduce((sum, each) => sum + each.byteLength, 0)));
        expect(streamedBytes === 0).toBe(shares.resident + shares.held === 1);
        for (const { streamed } of layers)
          expect(streamed.reduce((sum, { placedBytes }) => sum + placedBytes, 0)).toBeLessThanOrEqual(slotBytes);
      }
  });

  it.each(['llama', 'opt', 'mixtral'] as const)('honours both shares in every layer of %s, to a panel of 32 rows or an expert', (name) => {
    const plan = planOf(name);
    for (const shares of THREE)
      for (const [i, { resident, streamed }] of placeWeights(plan, shares).layers.entries()) {
        const large = plan.layers[i]!.filter(({ spec }) => spec.role === 'matrix' || spec.role === 'table');
        const bytesIn = (rows: readonly { weight: unknown; byteLength: number }[]): number =>
          rows.filter(({ weight }) => large.includes(weight as (typeof large)[0])).reduce((sum, { byteLength }) => sum + byteLength, 0);
        const all = bytesIn(large.map((weight) => ({ weight, byteLength: weight.byteLength })));
        const step = Math.max(...large.map(({ spec, byteLength }) => byteLength / (spec.stack?.count ?? Math.max(1, spec.shape[0]! / 64))));
        expect(Math.abs(bytesIn(resident) - shares.resident * all)).toBeLessThanOrEqual(step);
        expect(Math.abs(bytesIn(streamed.filter(({ held }) => held)) - shares.held * all)).toBeLessThanOrEqual(2 * step);
      }
  });

  it('has a tied weight once in RAM, and copies it for both layers', () => {
    const plan = planOf('opt');
    const { layers } = placeWeights(plan, { resident: 0, held: 1 });
    const [table] = plan.layers[0]!;
    const parts = [layers[0]!, layers.at(-1)!].map(({ streamed }) => streamed.find(({ weight }) => weight === table)!);
    expect(parts[0]).not.toBe(parts[1]);
    expect(parts[0]!.held).toBeDefined();
    expect(parts[0]!.held).toBe(parts[1]!.held);
  });

  it('leaves room for what a device reads behind each tensor', () => {
    const plan = planOf('llama');
    const [tight, padded] = [0, 100].map((paddingBytes) => placeWeights(plan, 0, { splitLookups: true, paddingBytes }));
    // Whole pages of f16 each, so that any padding takes another one.
    const most = Math.max(...padded!.layers.map(({ streamed }) => streamed.length));
    expect(padded!.slotBytes).toBeGreaterThan(tight!.slotBytes);
    expect(padded!.slotBytes).toBeLessThanOrEqual(tight!.slotBytes + 4096 * most);
  });
});

describe('assignSlots', () => {
  it('never has neighbours in one slot, also around the end of a sweep, from three slots on', () => {
    for (const slots of [3, 4, 5])
      for (let layers = 2; layers < 60; layers++) {
        const assigned = assignSlots(layers, slots);
        expect(assigned).toHaveLength(layers);
        expect(Math.max(...assigned)).toBeLessThan(slots);
        const apart = layers <= slots ? layers : slots === 3 || layers >= (slots - 1) * (slots - 2) ? slots - 1 : 1;
        for (let i = 0; i < layers; i++)
          for (let next = 1; next < apart; next++)
            expect(assigned[(i + next) % layers], `${layers} layers, ${slots} slots`).not.toBe(assigned[i]);
      }
  });

  it('takes turns with two slots', () => {
    expect(assignSlots(4, 2)).toEqual([0, 1, 0, 1]);
    expect(assignSlots(5, 2)).toEqual([0, 1, 0, 1, 0]);
    expect(assignSlots(0, 3)).toEqual([]);
  });
});
