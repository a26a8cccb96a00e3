/** The ops on plain arrays, row after row. Sums are made in double precision and rounded to f32 once, where a value is stored. */
import { type BatchRow, PAGE_POSITIONS } from '../device.ts';
import type { Activation, AttentionOptions } from '../graph.ts';
import { gelu } from './gelu.ts';

/** Element access to memory of any type. */
export interface Elements {
  read(index: number): number;
  /** Rounds to the type of the memory. */
  write(index: number, value: number): void;
}

export interface Matrix {
  readonly rows: number;
  readonly columns: number;
  readonly data: Float32Array;
}

export function newMatrix(rows: number, columns: number): Matrix {
  return { rows, columns, data: new Float32Array(rows * columns) };
}

/** Rows of `table` (as many as `tableRows`) by index. */
export function lookUp(table: Elements, tableRows: number, indices: readonly number[], out: Matrix): void {
  const { columns } = out;
  indices.forEach((index, row) => {
    if (!(index >= 0 && index < tableRows)) throw new RangeError(`row ${index} looked up in a table of ${tableRows}`);
    for (let c = 0; c < columns; c++) out.data[row * columns + c] = table.read(index * columns + c);
  });
}

/** Columns `from` on of out = activation(x W^T + bias) + residual, with one column for each row of `weight`. */
export function linear(
  x: Matrix,
  weight: { readonly data: Float32Array; readonly from: number; readonly to: number },
  options: { bias: Float32Array | undefined; activation: Activation | undefined; residual: Matrix | undefined },
  out: Matrix,
): void {
  const inputs = x.columns;
  for (let row = 0; row < x.rows; row++) {
    for (let column = weight.from; column < weight.to; column++) {
      const at = row * out.columns + column;
      let sum = options.bias?.[column] ?? 0;
      const first = (column - weight.from) * inputs;
      for (let i = 0; i < inputs; i++) sum += x.data[row * inputs + i]! * weight.data[first + i]!;
      out.data[at] = activate(sum, options.activation) + (options.residual?.data[at] ?? 0);
    }
  }
}

export function layerNorm(
  x: Matrix,
  { weight, bias, epsilon }: { weight: Float32Array | undefined; bias: Float32Array | undefined; epsilon: number },
  out: Matrix,
): void {
  const n = x.columns;
  for (let row = 0; row < x.rows; row++) {
    const values = x.data.subarray(row * n, (row + 1) * n);
    let mean = 0;
    for (const value of values) mean += value / n;
    let variance = 0;
    for (const value of values) variance += (value - mean) ** 2 / n;
    const factor = 1 / Math.sqrt(variance + epsilon);
    values.forEach((value, c) => {
      out.data[row * n + c] = (value - mean) * factor * (weight?.[c] ?? 1) + (bias?.[c] ?? 0);
    });
  }
}

/** Writes x, one row a token, to the cache positions of the batch's rows. */
export function appendToCache(x: Matrix, cache: Elements, rows: readonly BatchRow[]): void {
  let token = 0;
  for (const row of rows) {
    for (let i = 0; i < row.tokens.length; i++, token++) {
      const slot = slotOf(row, row.start + i);
      for (let c = 0; c < x.columns; c++) cache.write(slot * x.columns + c, x.data[token * x.columns + c]!);
    }
  }
}

export interface AttentionInputs extends AttentionOptions {
  readonly q: Matrix;
  readonly keys: Elements;
  readonly values: Elements;
}

/** Causal attention of every token to the cached positions of its own row, its own position included. */
export function attend(inputs: AttentionInputs, rows: readonly BatchRow[], out: Matrix): void {
  let token = 0;
  for (const row of rows) {
    for (let i = 0; i < row.tokens.length; i++, token++) {
      const slots = Array.from({ length: row.start + i + 1 }, (_, position) => slotOf(row, position));
      for (let head = 0; head < inputs.heads; head++) attendHead(inputs, slots, token, head, out);
    }
  }
}

function attendHead(inputs: AttentionInputs, slots: readonly number[], token: number, head: number, out: Matrix): void {
  const { q, keys, values, heads, kvHeads, headDim, scale } = inputs;
  const query = token * q.columns + head * headDim;
  const first = Math.floor((head * kvHeads) / heads) * headDim;
  const kvColumns = kvHeads * headDim;
  const scores = slots.map((slot) => {
    let score = 0;
    for (let d = 0; d < headDim; d++) score += q.data[query + d]! * keys.read(slot * kvColumns + first + d);
    return score * scale;
  });
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - highest));
  const total = weights.reduce((a, b) => a + b, 0);
  for (let d = 0; d < headDim; d++) {
    let sum = 0;
    slots.forEach((slot, position) => (sum += weights[position]! * values.read(slot * kvColumns + first + d)));
    out.data[query + d] = sum / total;
  }
}

function slotOf({ pages }: BatchRow, position: number): number {
  return pages[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);
}

function activate(x: number, activation: Activation | undefined): number {
  switch (activation) {
    case undefined:
      return x;
    case 'relu':
      return x < 0 ? 0 : x; // NaN stays NaN
    case 'gelu':
      return gelu(x);
    default:
      return activation satisfies never;
  }
}
