import { expect, it } from 'vitest';
import type { Device, Weight } from '../../src/tensor/device.ts';
import type { FloatType } from '../../src/tensor/dtype.ts';
import type { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Value } from '../../src/tensor/op-graph.ts';
import { type Bench, evaluate, lonelyRow } from './bench.ts';
import { floatWeights, randomNumbers, upload, uploadWeight } from './tensors.ts';

/** A weight cut before these rows, or experts. */
type Upload = (cuts: readonly number[]) => Promise<Weight>;

/** Tables and stacks of experts in several segments give the bits that they give in one; devices that take none say so. */
export function describeSplits(bench: Bench): void {
  describeTables(bench);
  describeStacks(bench);
}

function describeTables(bench: Bench): void {
  const { device, scope } = bench;
  const rows = [lonelyRow([0, 31, 32, 33], 30, [1]), lonelyRow([95, 96, 129, 32], 94, [2, 3])];
  it.each([
    { columns: 33, cuts: [32, 96], by: 'token', offset: 0 },
    { columns: 64, cuts: [32, 96], by: 'token', offset: 0 },
    { columns: 64, cuts: [32, 64, 96, 128], by: 'position', offset: 2 },
    { columns: 64, cuts: [1, 50], by: 'position', offset: 0 },
  ] as const)('embeds by $by, offset $offset, $columns columns, cut before rows $cuts', async ({ columns, cuts, by, offset }) => {
    for (const dtype of floatWeights(device())) {
      const values = randomNumbers(2, 130 * columns);
      const table: Upload = (before) =>
        uploadWeight(device(), scope, { name: 'table', dtype, shape: [130, columns], values, cuts: before });
      const [whole, pieces] = [await table([]), await table(cuts)];
      const embed = (weight: Weight) => evaluate(bench, 8, (graph) => graph.embed(weight, by, { offset }), rows);
      expect(await embed(pieces).catch(String)).toEqual(expected(device(), await embed(whole)));
    }
  });
}

interface StackCase {
  readonly columns: number;
  readonly inner: number;
  readonly gate: readonly number[];
  readonly up: readonly number[];
  readonly down: readonly number[];
}

function describeStacks(bench: Bench): void {
  const { device } = bench;
  it.each<StackCase>([
    // Experts of whole panels, and such that only a lone one has a panel in the order of our kernels.
    { columns: 64, inner: 32, gate: [1], up: [2, 4], down: [1, 2, 3, 4] },
    { columns: 34, inner: 66, gate: [1], up: [3, 4], down: [1, 4] },
    { columns: 33, inner: 7, gate: [], up: [], down: [3] },
  ])('mixes 5 experts of which each weight is cut before others: %j', async (c) => {
    for (const dtype of floatWeights(device())) {
      const [whole, pieces] = [await mixtureOf(bench, dtype, { ...c, gate: [], up: [], down: [] }), await mixtureOf(bench, dtype, c)];
      const mix = (build: (graph: GraphBuilder) => Value) => evaluate(bench, ROWS, build);
      expect(await mix(pieces).catch(String)).toEqual(expected(device(), await mix(whole)));
    }
  });
}

const ROWS = 9;
const EXPERTS = 5;

async function mixtureOf({ device, scope }: Bench, dtype: FloatType, c: StackCase): Promise<(graph: GraphBuilder) => Value> {
  const x = await upload(device(), scope, { shape: [ROWS, c.columns], values: randomNumbers(1, ROWS * c.columns) });
  const logits = await upload(device(), scope, { shape: [ROWS, EXPERTS], values: randomNumbers(2, ROWS * EXPERTS) });
  const stack = async (name: 'gate' | 'up' | 'down', seed: number, outputs: number, inputs: number): Promise<Weight> => {
    const [shape, values] = [[EXPERTS * outputs, inputs], randomNumbers(seed, EXPERTS * outputs * inputs)];
    return uploadWeight(device(), scope, { name, dtype, shape, values, parts: EXPERTS, cuts: c[name].map((expert) => expert * outputs) });
  };
  const gate = await stack('gate', 3, c.inner, c.columns);
  const [up, down] = [await stack('up', 4, c.inner, c.columns), await stack('down', 5, c.columns, c.inner)];
  return (graph) => graph.moe(graph.load(x), graph.load(logits), { gate, up, down, used: 3, normalise: true, activation: 'silu' });
}

/** What a device that takes no such weights says. */
const REFUSAL: unknown = expect.stringMatching(/(table|gate|up|down) has \d segments, 1 expected/);

const expected = ({ capabilities }: Device, whole: Float32Array): unknown => (capabilities.splitLookups ? whole : REFUSAL);
