/** The builder of graphs, which checks shapes. */
import { FlexError } from '../util/errors.ts';
import type { KvLayer, Tensor, Weight } from './device.ts';
import type { AttentionOptions, LinearOptions, MoeOptions, Node, NormOptions, OpGraph, RopeOptions, Value } from './op-graph.ts';

export interface GraphOptions {
  /** Of all attention ops. Default 1. */
  readonly attnSparsity?: number;
}

/** Builds one graph over `tokenCount` rows of a micro-batch. */
export class GraphBuilder {
  readonly tokenCount: number;
  readonly #name: string;
  readonly #sparsity: number;
  readonly #nodes: Node[] = [];

  constructor(name: string, tokenCount: number, { attnSparsity = 1 }: GraphOptions = {}) {
    this.#name = name;
    this.tokenCount = tokenCount;
    this.#sparsity = attnSparsity;
    this.#check(attnSparsity > 0 && attnSparsity <= 1, `sparsity of attention: a number in (0, 1] expected, got ${attnSparsity}`);
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
    this.#pieces('embed: table', table);
    return this.#push({ op: 'embed', table, by, offset, out: this.#value(this.tokenCount, table.shape[1]!) });
  }

  select(tensor: Tensor, ids: Tensor): Value {
    const [, columns] = this.#matrix(tensor);
    this.#check(ids.dtype === 'i32' && ids.shape.length === 1, `select: ids ${ids.name} must be i32 [n]`);
    return this.#push({ op: 'select', tensor, ids, out: this.#value(ids.shape[0]!, columns) });
  }

  linear(x: Value, weight: Weight, { bias, activation, factors, residual }: LinearOptions = {}): Value {
    const [outputs, inputs] = weight.shape;
    this.#check(
      weight.shape.length === 2 && inputs === x.columns,
      `linear: ${shapeText(x)} times ${weight.name} [${weight.shape.join(', ')}]`,
    );
    this.#pieces('linear: weight', weight);
    if (bias) this.#vector('linear: bias', bias, outputs!);
    const out = this.#value(x.rows, outputs!);
    if (factors) this.#same('linear: factors', factors, out);
    if (residual) this.#same('linear: residual', residual, out);
    return this.#push({
      op: 'linear',
      x,
      weight,
      out,
      ...(bias && { bias }),
      ...(activation && { activation }),
      ...(factors && { factors }),
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

  byLength(short: Value, long: Value, limit: number): Value {
    this.#same('byLength', short, long);
    this.#check(short.rows === this.tokenCount, `byLength: ${short.rows} rows, the micro-batch has ${this.tokenCount}`);
    this.#check(isCount(limit), `byLength: limit of ${limit} positions`);
    return this.#push({ op: 'byLength', short, long, limit, out: this.#value(short.rows, short.columns) });
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
    this.#stack('moe: gate', gate, experts, [inner, x.columns]);
    this.#stack('moe: up', up, experts, [inner, x.columns]);
    this.#stack('moe: down', down, experts, [x.columns, inner]);
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
    const sparsity = this.#sparsity;
    return this.#push({
      op: 'attention',
      q,
      k,
      v,
      cache,
      ...options,
      ...(sparsity < 1 && { sparsity }),
      out: this.#value(q.rows, q.columns),
    });
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

  /** `count` matrices [rows, columns] below each other. */
  #stack(what: string, weight: Weight, count: number, [rows, columns]: readonly [number, number]): void {
    const { name, shape, segments } = weight;
    const ok = shape.length === 2 && shape[0] === count * rows && shape[1] === columns;
    this.#check(ok, `${what} ${name}: [${count * rows}, ${columns}] expected, got [${shape.join(', ')}]`);
    this.#pieces(what, weight, rows);
    const types = new Set(segments.map(({ tensor }) => tensor.dtype));
    this.#check(types.size === 1, `${what} ${name}: segments of one type expected, got ${[...types].join(', ')}`);
  }

  /** The segments follow each other without gap, in multiples of `unit` rows, and are all rows. */
  #pieces(what: string, { name, shape, segments }: Weight, unit = 1): void {
    const follow = segments.every(({ from, to }, i) => from === (segments[i - 1]?.to ?? 0) && to > from && to % unit === 0);
    const found = segments.map(({ from, to }) => `${from} to ${to}`).join(', ');
    const ok = follow && segments.at(-1)?.to === shape[0];
    this.#check(ok, `${what} ${name}: segments of rows 0 to ${shape[0]} in multiples of ${unit} expected, got rows ${found || 'none'}`);
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
