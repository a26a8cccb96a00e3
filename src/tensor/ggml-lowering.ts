/** Turns a graph of our ops into a ggml graph. ggml's dimensions are innermost first: our [rows, columns] is its (columns, rows). */
import { type BackendDevice, type Context, GGML_TYPE, type GgmlBase, type Graph, type TensorPointer } from '../native/ggml.ts';
import { NativeError, internalError } from '../util/errors.ts';
import { PAGE_POSITIONS, type Tensor, type Weight } from './device.ts';
import type { GroupInputs } from './ggml-attention-inputs.ts';
import type { GgmlBatch } from './ggml-batch.ts';
import { pointerOf } from './ggml-memory.ts';
import type { Activation, Node, OpGraph, Value } from './op-graph.ts';

/** enum ggml_prec: accumulate in f32. */
const PRECISION_F32 = 10;
/** Most ggml nodes that one of our ops becomes, attention's groups, many segments and experts aside. */
const NODES_PER_OP = 10;
const NODES_PER_GROUP = 24;

/** GGML_ROPE_TYPE_NORMAL, GGML_ROPE_TYPE_NEOX */
const ROPE_MODE = { interleaved: 0, half: 2 } as const;
/** Twice the angle of GELU's tanh is GELU_SLOPE (x + GELU_CUBIC x^3). */
const GELU_SLOPE = 2 * Math.sqrt(2 / Math.PI);
const GELU_CUBIC = 0.044715;

type AttentionNode = Extract<Node, { op: 'attention' }>;

export interface LoweredGraph {
  readonly context: Context;
  readonly graph: Graph;
}

export interface LoweringTarget {
  readonly ggml: GgmlBase;
  /** Bytes. Some backends abort when an op reads a view that starts elsewhere. */
  readonly alignment: number;
  /** Is asked whether it computes each node. Without it every node passes: the CPU computes all that we emit. */
  readonly checkedBy?: BackendDevice | undefined;
}

/** The caller frees the context, and allocates the graph's intermediate results. @throws {NativeError} naming an op that the device lacks */
export function lowerGraph(target: LoweringTarget, graph: OpGraph, batch: GgmlBatch | undefined): LoweredGraph {
  const { ggml } = target;
  const parts = graph.nodes.reduce((sum, node) => sum + partsOf(node), 0);
  const groups = graph.nodes.reduce(
    (sum, node) => sum + (node.op === 'attention' ? (batch?.attention(node.window).groups.length ?? 0) : 0),
    0,
  );
  const size = graph.nodes.length * NODES_PER_OP + 2 * parts + groups * NODES_PER_GROUP + 16;
  const memory = size * ggml.tensorOverhead() + ggml.graphOverhead(size, false);
  const context = ggml.init({ mem_size: memory, mem_buffer: null, no_alloc: true });
  const native = ggml.newGraph(context, size, false);
  try {
    const lowering = new Lowering(target, context, native, batch);
    for (const node of graph.nodes) lowering.lower(node);
    if (target.checkedBy) checkSupport(ggml, target.checkedBy, graph.name, native);
  } catch (cause) {
    ggml.free(context);
    throw cause;
  }
  return { context, graph: native };
}

/** Backends abort the process on an op that they lack. */
function checkSupport(ggml: GgmlBase, device: BackendDevice, name: string, graph: Graph): void {
  for (let i = 0; i < ggml.graphNodeCount(graph); i++) {
    const node = ggml.graphNode(graph, i);
    if (ggml.deviceSupportsOp(device, node)) continue;
    const [op, description] = [ggml.opName(node), ggml.deviceDescription(device)];
    throw new NativeError(`${description} does not compute op ${op} of graph ${name} with these types and shapes`, {
      op,
      device: description,
    });
  }
}

/** What makes an op become more nodes: segments of a weight, experts of a token. */
function partsOf(node: Node): number {
  if (node.op === 'moe') return node.used + NODES_PER_OP;
  return node.op === 'linear' ? node.weight.segments.length : 0;
}

class Lowering {
  readonly #ggml: GgmlBase;
  readonly #alignment: number;
  readonly #context: Context;
  readonly #graph: Graph;
  readonly #batch: GgmlBatch | undefined;
  readonly #values: TensorPointer[] = [];

  constructor({ ggml, alignment }: LoweringTarget, context: Context, graph: Graph, batch: GgmlBatch | undefined) {
    this.#ggml = ggml;
    this.#alignment = alignment;
    this.#context = context;
    this.#graph = graph;
    this.#batch = batch;
  }

  lower(node: Node): void {
    const value = this.#lower(node);
    this.#values.push(value);
    // In the order of the model, so that writes to the cache and to stored tensors are part of the graph.
    this.#ggml.expand(this.#graph, value);
  }

  #lower(node: Node): TensorPointer {
    const { add, cpy, getRows, mul, scaleBias, tanh } = this.#ggml;
    const ctx = this.#context;
    switch (node.op) {
      case 'load':
        return this.#firstRows(node.tensor, node.out.rows);
      case 'store':
        return cpy(ctx, this.#value(node.x), this.#firstRows(node.tensor, node.x.rows));
      case 'select':
        return getRows(ctx, pointerOf(node.tensor), pointerOf(node.ids));
      case 'embed': {
        const batch = this.#batchOf(node.op);
        const ids = node.by === 'token' ? batch.tokens : batch.positions;
        return getRows(ctx, this.#rowsFrom(node.table, node.offset), ids.pointer);
      }
      case 'add':
        return add(ctx, this.#value(node.a), this.#value(node.b));
      case 'multiply':
        return mul(ctx, this.#value(node.a), this.#value(node.b));
      case 'scale':
        return scaleBias(ctx, this.#value(node.x), node.factor, 0);
      case 'softcap':
        return scaleBias(ctx, tanh(ctx, scaleBias(ctx, this.#value(node.x), 1 / node.cap, 0)), node.cap, 0);
      case 'byLength':
        return this.#byLength(node);
      case 'rope':
        return this.#rope(node);
      case 'moe':
        return this.#moe(node);
      case 'norm':
        return this.#norm(node);
      case 'linear':
        return this.#linear(node);
      case 'attention':
        return this.#attention(node);
      default:
        throw internalError(`ggml lowers no op ${(node satisfies never as Node).op}`);
    }
  }

  #linear({ x, weight, bias, activation, factors, residual }: Extract<Node, { op: 'linear' }>): TensorPointer {
    const { mulMat, concat, add, mul } = this.#ggml;
    const ctx = this.#context;
    const parts = weight.segments.map(({ tensor }) => mulMat(ctx, pointerOf(tensor), this.#value(x)));
    let y = parts.reduce((left, right) => concat(ctx, left, right, 0));
    if (bias) y = add(ctx, y, this.#whole(bias));
    if (activation) y = this.#activate(y, activation);
    if (factors) y = mul(ctx, y, this.#value(factors));
    return residual ? add(ctx, y, this.#value(residual)) : y;
  }

  #norm({ kind, groups, x, weight, bias, epsilon }: Extract<Node, { op: 'norm' }>): TensorPointer {
    const { norm, rmsNorm, mul, add, reshape2d } = this.#ggml;
    const ctx = this.#context;
    const whole = this.#value(x);
    const parts = groups === 1 ? whole : reshape2d(ctx, whole, x.columns / groups, x.rows * groups);
    let y = kind === 'rms' ? rmsNorm(ctx, parts, epsilon) : norm(ctx, parts, epsilon);
    if (weight) y = mul(ctx, y, this.#whole(weight));
    if (bias) y = add(ctx, y, this.#whole(bias));
    return groups === 1 ? y : reshape2d(ctx, y, x.columns, x.rows);
  }

  #byLength({ op, short, long, limit }: Extract<Node, { op: 'byLength' }>): TensorPointer {
    const { concat, getRows } = this.#ggml;
    const both = concat(this.#context, this.#value(short), this.#value(long), 1);
    return getRows(this.#context, both, this.#batchOf(op).byLength(limit).pointer);
  }

  #rope({ op, x, headDim, rotaryDims, style, divisors, factor }: Extract<Node, { op: 'rope' }>): TensorPointer {
    const { reshape2d, reshape4d, ropeExt } = this.#ggml;
    const ctx = this.#context;
    const heads = reshape4d(ctx, this.#value(x), headDim, x.columns / headDim, x.rows, 1);
    const { pointer: positions } = this.#batchOf(op).positions;
    // With base 1 the angle is the position over the divisor; without extrapolation the betas and the context count for nothing.
    const mode = ROPE_MODE[style];
    const rotated = ropeExt(ctx, heads, positions, this.#whole(divisors), rotaryDims, mode, 0, 1, 1, 0, factor, 0, 0);
    return reshape2d(ctx, rotated, x.columns, x.rows);
  }

  /** Expert by expert over the whole micro-batch, as ggml_mul_mat_id does it. */
  #moe({ x, logits, gate, up, down, used, normalise, activation }: Extract<Node, { op: 'moe' }>): TensorPointer {
    const { add, argsortTopK, div, getRows, mul, mulMatId, reshape2d, reshape4d, softMax, sumRows, view2d } = this.#ggml;
    const ctx = this.#context;
    const [experts, columns, rows] = [logits.columns, x.columns, x.rows];
    const inner = gate.shape[0]! / experts;
    const stack = (weight: Weight, inputs: number, outputs: number): TensorPointer =>
      reshape4d(ctx, this.#whole(weight), inputs, outputs, experts, 1);
    const probabilities = softMax(ctx, this.#value(logits));
    const ids = argsortTopK(ctx, probabilities, used);
    let shares = reshape2d(ctx, getRows(ctx, reshape4d(ctx, probabilities, 1, experts, rows, 1), ids), used, rows);
    if (normalise) shares = div(ctx, shares, sumRows(ctx, shares));
    const tokens = reshape4d(ctx, this.#value(x), columns, 1, rows, 1);
    const opened = this.#activate(mulMatId(ctx, stack(gate, columns, inner), tokens, ids), activation);
    const hidden = mul(ctx, opened, mulMatId(ctx, stack(up, columns, inner), tokens, ids));
    const results = mul(ctx, mulMatId(ctx, stack(down, inner, columns), hidden, ids), reshape4d(ctx, shares, 1, used, rows, 1));
    const bytes = columns * 4;
    const parts = Array.from({ length: used }, (_, i) => view2d(ctx, results, columns, rows, used * bytes, i * bytes));
    return parts.reduce((left, right) => add(ctx, left, right));
  }

  #activate(x: TensorPointer, activation: Activation): TensorPointer {
    switch (activation) {
      case 'relu':
        return this.#ggml.clamp(this.#context, x, 0, Infinity); // ggml_relu makes 0 of NaN; this makes infinity of it on the CPU
      case 'gelu':
        return this.#ggml.geluErf(this.#context, x); // ggml_gelu looks up a table in f16
      case 'gelu_tanh':
        return this.#geluTanh(x);
      case 'sigmoid':
        return this.#ggml.sigmoid(this.#context, x);
      case 'silu':
        return this.#ggml.silu(this.#context, x);
      default:
        throw internalError(`ggml lowers no activation ${String(activation satisfies never)}`);
    }
  }

  /** x sigmoid(2 t), which is x (1 + tanh t) / 2; ggml_gelu looks up a table in f16. */
  #geluTanh(x: TensorPointer): TensorPointer {
    const { mul, scaleBias, sigmoid } = this.#ggml;
    const ctx = this.#context;
    const slope = scaleBias(ctx, mul(ctx, x, x), GELU_SLOPE * GELU_CUBIC, GELU_SLOPE);
    return mul(ctx, x, sigmoid(ctx, mul(ctx, slope, x)));
  }

  #attention(node: AttentionNode): TensorPointer {
    const { setRows, newTensor2d } = this.#ggml;
    const ctx = this.#context;
    if (node.sparsity !== undefined) throw internalError(`attention with sparsity ${node.sparsity}: ggml has no sparse attention`);
    const batch = this.#batchOf(node.op);
    const { append, groups } = batch.attention(node.window);
    const keys = setRows(ctx, pointerOf(node.cache.keys), this.#value(node.k), append.pointer);
    const values = setRows(ctx, pointerOf(node.cache.values), this.#value(node.v), append.pointer);
    const columns = node.heads * node.headDim;
    // One row more than tokens takes the outputs of padding.
    let out = newTensor2d(ctx, GGML_TYPE.f32, columns, batch.tokenCount + 1);
    for (const group of groups) out = setRows(ctx, out, this.#attendGroup(node, group, keys, values), group.outputIds.pointer);
    return this.#ggml.view2d(ctx, out, columns, batch.tokenCount, columns * 4, 0);
  }

  /** @returns [rows * queries, heads * headDim] */
  #attendGroup(node: AttentionNode, group: GroupInputs, keys: TensorPointer, values: TensorPointer): TensorPointer {
    const { getRows, reshape2d, reshape4d, permute, flashAttention, flashAttentionSetPrecision } = this.#ggml;
    const ctx = this.#context;
    const { heads, kvHeads, headDim } = node;
    const { rows, queries, pages } = group;
    const q = getRows(ctx, this.#value(node.q), group.queryIds.pointer);
    const q4 = permute(ctx, reshape4d(ctx, q, headDim, heads, queries, rows), 0, 2, 1, 3);
    const dense = (cache: TensorPointer): TensorPointer => {
      const pageColumns = PAGE_POSITIONS * kvHeads * headDim;
      const paged = reshape2d(ctx, cache, pageColumns, node.cache.keys.shape[0]! / PAGE_POSITIONS);
      const gathered = getRows(ctx, paged, group.pageIds.pointer);
      return permute(ctx, reshape4d(ctx, gathered, headDim, kvHeads, pages * PAGE_POSITIONS, rows), 0, 2, 1, 3);
    };
    const mask = reshape4d(ctx, group.mask.pointer, pages * PAGE_POSITIONS, queries, 1, rows);
    const out = flashAttention(ctx, q4, dense(keys), dense(values), mask, node.scale, 0, node.softcap ?? 0);
    flashAttentionSetPrecision(out, PRECISION_F32);
    return reshape2d(ctx, out, heads * headDim, queries * rows);
  }

  #value(value: Value): TensorPointer {
    const pointer = this.#values[value.node];
    if (pointer === undefined) throw internalError(`value of node ${value.node} is used before it is made`);
    return pointer;
  }

  #firstRows(tensor: Tensor, rows: number): TensorPointer {
    const columns = tensor.shape[1]!;
    return this.#ggml.view2d(this.#context, pointerOf(tensor), columns, rows, columns * 4, 0);
  }

  #rowsFrom(table: Weight, offset: number): TensorPointer {
    const [rows, columns] = table.shape as [number, number];
    const rowBytes = table.segments[0]!.tensor.byteLength / rows;
    const view = this.#ggml.view2d(this.#context, this.#whole(table), columns, rows - offset, rowBytes, offset * rowBytes);
    // Rows of real models are a multiple of any alignment; the copy is for others.
    return (offset * rowBytes) % this.#alignment === 0 ? view : this.#ggml.cont(this.#context, view);
  }

  /** Vectors, tables and stacks: see `splitLookups`. */
  #whole({ name, segments }: Weight): TensorPointer {
    if (segments.length !== 1) throw internalError(`ggml: ${name} has ${segments.length} segments, 1 expected`);
    return pointerOf(segments[0]!.tensor);
  }

  #batchOf(op: string): GgmlBatch {
    if (!this.#batch) throw internalError(`op ${op} needs a batch`);
    return this.#batch;
  }
}
