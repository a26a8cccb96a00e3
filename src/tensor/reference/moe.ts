/** A mixture of experts on plain arrays, one token after the other. Sums are made in double precision. */
import type { MoeOptions } from '../op-graph.ts';
import { activate, type Matrix } from './ops.ts';

export interface MoeWeights {
  /** [experts * inner, columns of x] */
  readonly gate: Float32Array;
  readonly up: Float32Array;
  /** [experts * columns of x, inner] */
  readonly down: Float32Array;
}

export function mixExperts(x: Matrix, logits: Matrix, weights: MoeWeights, options: MoeOptions, out: Matrix): void {
  for (let row = 0; row < x.rows; row++) {
    const token = x.data.subarray(row * x.columns, (row + 1) * x.columns);
    const sums = new Float64Array(x.columns);
    for (const { expert, share } of choose(logits.data.subarray(row * logits.columns, (row + 1) * logits.columns), options)) {
      runExpert(token, weights, { ...options, expert, experts: logits.columns }).forEach((value, c) => (sums[c]! += share * value));
    }
    out.data.set(sums, row * x.columns);
  }
}

function choose(logits: Float32Array, { used, normalise }: MoeOptions): { expert: number; share: number }[] {
  const highest = logits.reduce((a, b) => Math.max(a, b), -Infinity);
  const exponentials = Array.from(logits, (logit, expert) => ({ expert, weight: Math.exp(logit - highest) }));
  const chosen = exponentials.toSorted((a, b) => b.weight - a.weight).slice(0, used);
  const total = (normalise ? chosen : exponentials).reduce((sum, { weight }) => sum + weight, 0);
  return chosen.map(({ expert, weight }) => ({ expert, share: weight / total }));
}

function runExpert(
  x: Float32Array,
  { gate, up, down }: MoeWeights,
  { expert, experts, activation }: { expert: number; experts: number; activation: MoeOptions['activation'] },
): number[] {
  const inner = gate.length / experts / x.length;
  const dot = (weights: Float32Array, row: number, values: ArrayLike<number>): number => {
    let sum = 0;
    for (let i = 0; i < values.length; i++) sum += weights[row * values.length + i]! * values[i]!;
    return sum;
  };
  const hidden = Array.from(
    { length: inner },
    (_, i) => activate(dot(gate, expert * inner + i, x), activation) * dot(up, expert * inner + i, x),
  );
  return Array.from(x, (_, c) => dot(down, expert * x.length + c, hidden));
}
