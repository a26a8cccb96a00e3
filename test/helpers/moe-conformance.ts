import { expect, it } from 'vitest';
import type { Activation } from '../../src/tensor/op-graph.ts';
import { type Bench, evaluate } from './bench.ts';
import { naiveGelu, naiveMoe, naiveSilu } from './naive-ops.ts';
import { differences, floatWeights, randomNumbers, roundedTo, upload, uploadWeight } from './tensors.ts';

interface MoeCase {
  readonly rows: number;
  readonly columns: number;
  readonly inner: number;
  readonly experts: number;
  readonly used: number;
  readonly normalise: boolean;
  readonly activation: Activation;
}

export function describeMoe(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  it.each<MoeCase>([
    { rows: 1, columns: 33, inner: 7, experts: 4, used: 1, normalise: false, activation: 'silu' },
    { rows: 1, columns: 64, inner: 31, experts: 4, used: 2, normalise: true, activation: 'silu' },
    { rows: 65, columns: 31, inner: 65, experts: 5, used: 3, normalise: true, activation: 'silu' },
    { rows: 33, columns: 64, inner: 48, experts: 9, used: 2, normalise: false, activation: 'gelu' },
    { rows: 3, columns: 5, inner: 3, experts: 2, used: 2, normalise: false, activation: 'silu' },
    { rows: 2, columns: 8, inner: 8, experts: 3, used: 1, normalise: true, activation: 'silu' },
  ])('%j in every weight type', async (c) => {
    const { rows, columns, inner, experts } = c;
    // Far enough apart that every device chooses the same experts.
    const ls = Float32Array.from({ length: rows * experts }, (_, i) => (((i % experts) * 7 + Math.trunc(i / experts) * 3) % experts) * 0.4);
    // Small, so that three products with rounded weights do not add up to large errors.
    const xs = randomNumbers(1, rows * columns).map((value) => value / 5);
    const x = await upload(device(), scope, { shape: [rows, columns], values: xs });
    const logits = await upload(device(), scope, { shape: [rows, experts], values: ls });
    for (const dtype of floatWeights(device())) {
      const stack = async (seed: number, outputs: number, inputs: number) => {
        const values = randomNumbers(seed, experts * outputs * inputs);
        const weight = await uploadWeight(device(), scope, { dtype, shape: [experts * outputs, inputs], values, parts: experts });
        return { weight, values: roundedTo(dtype, values) };
      };
      const [gate, up, down] = [await stack(2, inner, columns), await stack(3, inner, columns), await stack(4, columns, inner)];
      const weights = { gate: gate.weight, up: up.weight, down: down.weight };
      const got = await evaluate(bench, rows, (graph) => graph.moe(graph.load(x), graph.load(logits), { ...c, ...weights }));
      const wanted = naiveMoe(
        xs,
        ls,
        { gate: gate.values, up: up.values, down: down.values },
        {
          ...c,
          activate: c.activation === 'gelu' ? naiveGelu : naiveSilu,
        },
      );
      const exact = device().capabilities.exactWeights.includes(dtype);
      expect(differences(got, wanted, exact ? tolerance.exact : 2 * (tolerance.roundedWeights ?? tolerance.exact), dtype)).toEqual([]);
    }
  });
}
