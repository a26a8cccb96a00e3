/** The ops on plain arrays, row after row. Sums are made in double precision and rounded to f32 once, where a value is stored. */
import { type BatchRow, PAGE_POSITIONS } from '../device.ts';
import type { Activation, AttentionOptions, NormKind, RopeOptions } from '../op-graph.ts';
import { gelu, geluTanh } from './gelu.ts';
import { pagesOf } from '../row-batch.ts';

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

/** Rows `from` (inclusive) to `to` (exclusive) of a table. */
export interface TablePiece {
  readonly from: number;
  readonly to: number;
  readonly elements: Elements;
}

/** Rows of a table by index; its pieces follow each other without gap. */
export function lookUp(pieces: readonly TablePiece[], indices: readonly number[], out: Matrix): void {
  const { columns } = out;
  indices.forEach((index, row) => {
    const piece = pieces.find(({ from, to }) => index >= from && index < to);
    if (!piece) throw new RangeError(`row ${index} looked up in a table of ${pieces.at(-1)?.to}`);
    const first = (index - piece.from) * columns;
    for (let c = 0; c < columns; c++) out.data[row * columns + c] = piece.elements.read(first + c);
  });
}

export interface LinearInputs {
  readonly bias: Float32Array | undefined;
  readonly activation?: Activation;
  readonly factors: Float32Array | undefined;
  readonly residual: Float32Array | undefined;
}

/** Columns `from` on of out = activation(x W^T + bias) * factors + residual, with one column for each row of `weight`. */
export function linear(
  x: Matrix,
  weight: { readonly data: Float32Array; readonly from: number; readonly to: number },
  options: LinearInputs,
  out: Matrix,
): void {
  const inputs = x.columns;
  for (let row = 0; row < x.rows; row++) {
    for (let column = weight.from; column < weight.to; column++) {
      const at = row * out.columns + column;
      let sum = options.bias?.[column] ?? 0;
      const first = (column - weight.from) * inputs;
      for (let i = 0; i < inputs; i++) sum += x.data[row * inputs + i]! * weight.data[first + i]!;
      out.data[at] = activate(sum, options.activation) * (options.factors?.[at] ?? 1) + (options.residual?.[at] ?? 0);
    }
  }
}

export interface NormInputs {
  readonly kind: NormKind;
  readonly groups: number;
  readonly weight: Float32Array | undefined;
  readonly bias: Float32Array | undefined;
  readonly epsilon: number;
}

export function normalise(x: Matrix, { kind, groups, weight, bias, epsilon }: NormInputs, out: Matrix): void {
  const n = x.columns / groups;
  for (let row = 0; row < x.rows * groups; row++) {
    const values = x.data.subarray(row * n, (row + 1) * n);
    let mean = 0;
    if (kind === 'layer') for (const value of values) mean += value / n;
    let variance = 0;
    for (const value of values) variance += (value - mean) ** 2 / n;
    const factor = 1 / Math.sqrt(variance + epsilon);
    values.forEach((value, c) => {
      out.data[row * n + c] = (value - mean) * factor * (weight?.[c] ?? 1) + (bias?.[c] ?? 0);
    });
  }
}

export function rotate(
  x: Matrix,
  { headDim, rotaryDims, style, divisors, factor }: Omit<RopeOptions, 'divisors'> & { readonly divisors: Float32Array },
  positions: readonly number[],
  out: Matrix,
): void {
  out.data.set(x.data);
  const pairs = rotaryDims / 2;
  for (const [row, position] of positions.entries()) {
    for (let head = row * x.columns; head < (row + 1) * x.columns; head += headDim) {
      for (let i = 0; i < pairs; i++) {
        const angle = position / divisors[i]!;
        const [first, second] = style === 'half' ? [head + i, head + i + pairs] : [head + 2 * i, head + 2 * i + 1];
        const [a, b] = [x.data[first]!, x.data[second]!];
        out.data[first] = factor * (a * Math.cos(angle) - b * Math.sin(angle));
        out.data[second] = factor * (a * Math.sin(angle) + b * Math.cos(angle));
      }
    }
  }
}

/** Writes x, one row a token, to the cache positions of the batch's rows. */
export function appendToCache(x: Matrix, cache: Elements, rows: readonly BatchRow[], window = Infinity): void {
  let token = 0;
  for (const row of rows) {
    for (let i = 0; i < row.tokens.length; i++, token++) {
      const slot = slotOf(row, row.start + i, window);
      for (let c = 0; c < x.columns; c++) cache.write(slot * x.columns + c, x.data[token * x.columns + c]!);
    }
  }
}

export interface AttentionInputs extends AttentionOptions {
  readonly q: Matrix;
  readonly keys: Elements;
  readonly values: Elements;
  readonly sparsity?: number;
}

/** Causal attention of every token to the cached positions of its own row, its own position included. */
export function attend(inputs: AttentionInputs, rows: readonly BatchRow[], out: Matrix): void {
  const dense = { ...inputs, sparsity: 1 };
  let token = 0;
  for (const row of rows) {
    for (let i = 0; i < row.tokens.length; i++, token++) {
      const end = row.start + i + 1;
      const { window = Infinity } = inputs;
      const from = Math.max(0, end - window);
      const slots = Array.from({ length: end - from }, (_, position) => slotOf(row, from + position, window));
      const { prompt = Infinity } = row;
      for (let head = 0; head < inputs.heads; head++) attendHead(end > prompt ? inputs : dense, slots, token, head, out);
    }
  }
}

function attendHead(inputs: AttentionInputs, slots: readonly number[], token: number, head: number, out: Matrix): void {
  const { q, keys, values, heads, kvHeads, headDim, scale, softcap: cap, sparsity = 1 } = inputs;
  const query = token * q.columns + head * headDim;
  const first = Math.floor((head * kvHeads) / heads) * headDim;
  const kvColumns = kvHeads * headDim;
  const scores = slots.map((slot) => {
    let score = 0;
    for (let d = 0; d < headDim; d++) score += q.data[query + d]! * keys.read(slot * kvColumns + first + d);
    return cap === undefined ? score * scale : softcap(score * scale, cap);
  });
  const highest = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((score) => Math.exp(score - highest));
  const total = weights.reduce((a, b) => a + b, 0);
  const used = sparsity < 1 ? largestWeights(weights, sparsity) : [...slots.keys()];
  for (let d = 0; d < headDim; d++) {
    let sum = 0;
    for (const position of used) sum += weights[position]! * values.read(slots[position]! * kvColumns + first + d);
    out.data[query + d] = sum / total;
  }
}

/** The last position, and of those before it the share with the largest weights, in their order. */
function largestWeights(weights: readonly number[], sparsity: number): number[] {
  const past = weights.length - 1;
  const byWeight = Array.from({ length: past }, (_, position) => position).toSorted((a, b) => weights[b]! - weights[a]! || a - b);
  return [...byWeight.slice(0, Math.floor(sparsity * past)).toSorted((a, b) => a - b), past];
}

/** Into (-cap, cap), nearly unchanged around 0. */
export function softcap(x: number, cap: number): number {
  return cap * Math.tanh(x / cap);
}

function slotOf(row: BatchRow, position: number, window: number): number {
  return pagesOf(row, window)[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);
}

export function activate(x: number, activation: Activation | undefined): number {
  switch (activation) {
    case undefined:
      return x;
    case 'relu':
      return x < 0 ? 0 : x; // NaN stays NaN
    case 'gelu':
      return gelu(x);
    case 'gelu_tanh':
      return geluTanh(x);
    case 'silu':
      return x / (1 + Math.exp(-x));
    case 'sigmoid':
      return 1 / (1 + Math.exp(-x));
    default:
      return activation satisfies never;
  }
}
