/**
 * The op vocabulary of models, and the builder that checks shapes. A graph is frozen plain data about values of shape
 * [rows, columns] in f32; devices lower it. Nothing here computes.
 */
import { FlexError } from '../util/errors.ts';
import type { KvLayer, Tensor, Weight } from './device.ts';

/** `gelu` is the exact one (erf), `gelu_tanh` its usual approximation. */
export type Activation = 'relu' | 'gelu' | 'gelu_tanh' | 'silu' | 'sigmoid';
/** `rms` subtracts no mean and has no bias. */
export type NormKind = 'layer' | 'rms';

/** An intermediate result: the node with this index makes it. */
export interface Value {
  readonly node: number;
  readonly rows: number;
  readonly columns: number;
}

export interface AttentionOptions {
  readonly heads: number;
  /** Query heads h * heads / kvHeads ... share key head h. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** A token sees this many positions, its own included. Default: all. */
  readonly window?: number | undefined;
  /** Scores become cap * tanh(score / cap), before the mask. */
  readonly softcap?: number | undefined;
}

/** Rotation of pairs of columns of every head by an angle that grows with the position. */
export interface RopeOptions {
  /** The columns of x are heads of this many. */
  readonly headDim: number;
  /** The first columns of each head that are rotated. */
  readonly rotaryDims: number;
  /** Column i is paired with i + rotaryDims / 2 (`half`), or column 2i with 2i + 1 (`interleaved`). */
  readonly style: 'half' | 'interleaved';
  /** [rotaryDims / 2]: the angle of pair i at position p is p / divisors[i]. */
  readonly divisors: Weight;
  /** Multiplies the rotated columns. */
  readonly factor: number;
}

/** A mixture of gated experts, stacked in order. All weights have one segment. */
export interface MoeOptions {
  /** [experts * inner, columns of x] */
  readonly gate: Weight;
  readonly up: Weight;
  /** [experts * columns of x, inner] */
  readonly down: Weight;
  /** Experts of one token, those with the highest logits. */
  readonly used: number;
  /** Shares are softmax over the chosen experts, otherwise over all. */
  readonly normalise: boolean;
  readonly activation: Activation;
}

export type Node =
  /** The first `rows` rows of a device tensor [n, columns] in f32. */
  | { readonly op: 'load'; readonly tensor: Tensor; readonly out: Value }
  /** Writes x to the first rows of a device tensor [n, columns] in f32. */
  | { readonly op: 'store'; readonly x: Value; readonly tensor: Tensor; readonly out: Value }
  /** Rows of `table` by token id or position; `offset` is added to the index. */
  | { readonly op: 'embed'; readonly table: Weight; readonly by: 'token' | 'position'; readonly offset: number; readonly out: Value }
  /** Rows of a device tensor [n, columns] in f32 by the indices in `ids` (i32). */
  | { readonly op: 'select'; readonly tensor: Tensor; readonly ids: Tensor; readonly out: Value }
  /** activation(x W^T + bias) + residual */
  | {
      readonly op: 'linear';
      readonly x: Value;
      readonly weight: Weight;
      readonly bias?: Weight;
      readonly activation?: Activation;
      readonly residual?: Value;
      readonly out: Value;
    }
  /**
   * Per row and group of columns: (x - mean) / sqrt(variance + epsilon) * weight + bias, or x / sqrt(mean of squares + epsilon) * weight.
   * Groups are equal parts of the columns; all have the same weight and bias, [columns / groups].
   */
  | {
      readonly op: 'norm';
      readonly kind: NormKind;
      readonly groups: number;
      readonly x: Value;
      readonly weight?: Weight;
      readonly bias?: Weight;
      readonly epsilon: number;
      readonly out: Value;
    }
  /** `multiply` takes a b of one column too. */
  | { readonly op: 'add' | 'multiply'; readonly a: Value; readonly b: Value; readonly out: Value }
  | { readonly op: 'scale'; readonly x: Value; readonly factor: number; readonly out: Value }
  /** cap * tanh(x / cap) */
  | { readonly op: 'softcap'; readonly x: Value; readonly cap: number; readonly out: Value }
  /** Sum over the experts with the highest logits of share * down(activation(gate(x)) * up(x)) */
  | ({ readonly op: 'moe'; readonly x: Value; readonly logits: Value; readonly out: Value } & MoeOptions)
  /** At the positions of the batch's tokens. */
  | ({ readonly op: 'rope'; readonly x: Value; readonly out: Value } & RopeOptions)
  /** Appends k and v to the cache at the rows' positions, then attends causally to all positions of the own row. */
  | ({
      readonly op: 'attention';
      readonly q: Value;
      readonly k: Value;
      readonly v: Value;
      readonly cache: KvLayer;
      readonly out: Value;
    } & AttentionOptions);

export interface OpGraph {
  readonly name: string;
  readonly nodes: readonly Node[];
}

export interface NormOptions {
  readonly kind: NormKind;
  /** Default 1. */
  readonly groups?: number;
  readonly weight?: Weight | undefined;
  readonly bias?: Weight | undefined;
  readonly epsilon: number;
}

/** Builds one graph over `tokenCount` rows of a micro-batch. */
export class GraphBuilder {
  readonly tokenCount: number;
  readonly #name: string;
  readonly #nodes: Node[] = [];

  constructor(name: string, tokenCount: number) {
    this.#name = name;
    this.tokenCount = tokenCount;
  }

  finish(): OpGraph {
    return Object.freeze({ name: this.#name, nodes: Object.freeze([...this.#nodes]) });
  }

  load(tensor: Tensor): Value {
    const [rows, columns] = this.#matrix(tensor);
    this.#check(rows >= this.tokenCount, `load ${tensor.name}: ${this.tokenCount} rows wanted, it has ${rows}`);
    return this.#push({ op: 'load', tensor, out: this.#value(this.tokenCount, columns) });
  }

  store(x: Value, tensor: Tensor): void {
    const [rows, columns] = this.#matrix(tensor);
    this.#check(x.rows <= rows && x.columns === columns, `store ${shapeText(x)} to ${tensor.name} [${rows}, ${columns}]`);
    this.#push({ op: 'store', x, tensor, out: this.#value(x.rows, x.columns) });
  }

  embed(table: Weight, by: 'token' | 'position', { offset = 0 }: { offset?: number } = {}): Value {
    this.#check(table.shape.length === 2, `embed: table ${table.name} has shape [${table.shape.join(', ')}]`);
    this.#check(table.segments.length === 1, `embed: table ${table.name} is split into ${table.segments.length} segments`);
    return this.#push({ op: 'embed', table, by, offset, out: this.#value(this.tokenCount, table.shape[1]!) });
  }

  select(tensor: Tensor, ids: Tensor): Value {
    const [, columns] = this.#matrix(tensor);
    this.#check(ids.dtype === 'i32' && ids.shape.length === 1, `select: ids ${ids.name} must be i32 [n]`);
    return this.#push({ op: 'select', tensor, ids, out: this.#value(ids.shape[0]!, columns) });
  }

  linear(x: Value, weight: Weight, options: { bias?: Weight | undefined; activation?: Activation; residual?: Value } = {}): Value {
    const [outputs, inputs] = weight.shape;
    const { bias, activation, residual } = options;
    this.#check(
      weight.shape.length === 2 && inputs === x.columns,
      `linear: ${shapeText(x)} times ${weight.name} [${weight.shape.join(', ')}]`,
    );
    if (bias) this.#vector('linear: bias', bias, outputs!);
    const out = this.#value(x.rows, outputs!);
    if (residual) this.#same('linear: residual', residual, out);
    return this.#push({
      op: 'linear',
      x,
      weight,
      out,
      ...(bias && { bias }),
      ...(activation && { activation }),
      ...(residual && { residual }),
    });
  }

  norm(x: Value, options: NormOptions): Value {
    const { kind, groups = 1, weight, bias, epsilon } = options;
    this.#check(isCount(groups) && x.columns % groups === 0, `norm: ${shapeText(x)} in ${groups} groups`);
    this.#check(kind === 'layer' || !bias, `norm: ${kind} has no bias`);
    if (weight) this.#vector('norm: weight', weight, x.columns / groups);
    if (bias) this.#vector('norm: bias', bias, x.columns / groups);
    const out = this.#value(x.rows, x.columns);
    return this.#push({ op: 'norm', kind, groups, x, epsilon, out, ...(weight && { weight }), ...(bias && { bias }) });
  }

  add(a: Value, b: Value): Value {
    this.#same('add', a, b);
    return this.#push({ op: 'add', a, b, out: this.#value(a.rows, a.columns) });
  }

  multiply(a: Value, b: Value): Value {
    if (b.columns !== 1 || b.rows !== a.rows) this.#same('multiply', a, b);
    return this.#push({ op: 'multiply', a, b, out: this.#value(a.rows, a.columns) });
  }

  scale(x: Value, factor: number): Value {
    this.#check(Number.isFinite(factor), `scale: factor ${factor}`);
    return this.#push({ op: 'scale', x, factor, out: this.#value(x.rows, x.columns) });
  }

  softcap(x: Value, cap: number): Value {
    this.#check(Number.isFinite(cap) && cap > 0, `softcap: cap ${cap}`);
    return this.#push({ op: 'softcap', x, cap, out: this.#value(x.rows, x.columns) });
  }

  rope(x: Value, options: RopeOptions): Value {
    const { headDim, rotaryDims, divisors } = options;
    // Even, because ggml's Vulkan shader writes pairs and would leave an odd head.
    this.#check(isCount(headDim / 2) && x.columns % headDim === 0, `rope: ${shapeText(x)} in heads of ${headDim}`);
    this.#check(
      isCount(rotaryDims / 2) && rotaryDims <= headDim,
      `rope: ${rotaryDims} rotated columns, an even number up to ${headDim} expected`,
    );
    this.#check(x.rows === this.tokenCount, `rope: ${x.rows} rows, the micro-batch has ${this.tokenCount}`);
    this.#vector('rope: divisors', divisors, rotaryDims / 2);
    return this.#push({ op: 'rope', x, ...options, out: this.#value(x.rows, x.columns) });
  }

  /** `logits` are the router's, one column an expert. */
  moe(x: Value, logits: Value, options: MoeOptions): Value {
    const { gate, up, down, used } = options;
    const experts = logits.columns;
    const inner = gate.shape[0]! / experts;
    this.#check(isCount(inner) && logits.rows === x.rows, `moe: ${shapeText(x)} with logits ${shapeText(logits)}`);
    this.#check(isCount(used) && used <= experts, `moe: ${used} of ${experts} experts`);
    this.#matrixOf('moe: gate', gate, [experts * inner, x.columns]);
    this.#matrixOf('moe: up', up, [experts * inner, x.columns]);
    this.#matrixOf('moe: down', down, [experts * x.columns, inner]);
    return this.#push({ op: 'moe', x, logits, ...options, out: this.#value(x.rows, x.columns) });
  }

  attention(q: Value, k: Value, v: Value, cache: KvLayer, options: AttentionOptions): Value {
    const { heads, kvHeads, headDim, window = Infinity, softcap = Infinity } = options;
    const kvColumns = kvHeads * headDim;
    this.#check(q.columns === heads * headDim && heads % kvHeads === 0, `attention: q ${shapeText(q)} with ${heads} heads of ${headDim}`);
    this.#check(
      k.columns === kvColumns && v.columns === kvColumns,
      `attention: k ${shapeText(k)}, v ${shapeText(v)}, ${kvColumns} columns expected`,
    );
    this.#check(cache.keys.shape[1] === kvColumns, `attention: cache has ${cache.keys.shape[1]} columns, ${kvColumns} expected`);
    this.#check(q.rows === this.tokenCount, `attention: ${q.rows} rows, the micro-batch has ${this.tokenCount}`);
    this.#check(window === Infinity || isCount(window), `attention: window of ${window} positions`);
    this.#check(softcap > 0, `attention: softcap ${softcap}`);
    return this.#push({ op: 'attention', q, k, v, cache, ...options, out: this.#value(q.rows, q.columns) });
  }

  #value(rows: number, columns: number): Value {
    return { node: this.#nodes.length, rows, columns };
  }

  #push(node: Node): Value {
    this.#nodes.push(Object.freeze(node));
    return node.out;
  }

  #matrix(tensor: Tensor): [number, number] {
    const ok = tensor.shape.length === 2 && tensor.dtype === 'f32';
    this.#check(ok, `tensor ${tensor.name}: f32 matrix expected, got ${tensor.dtype} [${tensor.shape.join(', ')}]`);
    return tensor.shape as [number, number];
  }

  #vector(what: string, weight: Weight, length: number): void {
    const ok = weight.shape.length === 1 && weight.shape[0] === length;
    this.#check(ok, `${what} ${weight.name}: [${length}] expected, got [${weight.shape.join(', ')}]`);
  }

  #matrixOf(what: string, { name, shape, segments }: Weight, wanted: readonly [number, number]): void {
    const ok = shape.length === 2 && shape[0] === wanted[0] && shape[1] === wanted[1] && segments.length === 1;
    this.#check(ok, `${what} ${name}: [${wanted.join(', ')}] in one segment expected, got [${shape.join(', ')}] in ${segments.length}`);
  }

  #same(what: string, a: Value, b: Value): void {
    this.#check(a.rows === b.rows && a.columns === b.columns, `${what}: ${shapeText(a)} and ${shapeText(b)} differ`);
  }

  #check(ok: boolean, problem: string): void {
    if (!ok) throw new FlexError('shape', `graph ${this.#name}: ${problem}`);
  }
}

const isCount = (n: number): boolean => Number.isInteger(n) && n > 0;
const shapeText = ({ rows, columns }: Value): string => `[${rows}, ${columns}]`;
