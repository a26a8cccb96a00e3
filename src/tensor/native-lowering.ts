/** Turns a graph of our ops into steps of the kernels. */
import {
  type Address,
  addressOf,
  encodeArguments,
  encodeSteps,
  type KernelArguments,
  type KernelOp,
  type Kernels,
  type KernelStack,
} from '../native/kernels.ts';
import { internalError } from '../util/errors.ts';
import type { Tensor, Weight, WeightSegment } from './device.ts';
import { directStores } from './direct-stores.ts';
import type { NativeBatch } from './native-batch.ts';
import { nativeTensor } from './native-memory.ts';
import { KERNEL_TYPE } from './native-types.ts';
import { describe, describeStack, placesOf, type ToFloat, vectorAddress } from './native-weights.ts';
import type { Activation, Node, OpGraph, Value } from './op-graph.ts';
import { type ArenaPlan, type ArenaRequest, planArena } from './value-arena.ts';

const ACTIVATIONS: Readonly<Record<Activation, number>> = { relu: 1, gelu: 2, gelu_tanh: 3, silu: 4, sigmoid: 5 };
const MAP_KINDS = { add: 0, multiply: 1, multiplyRows: 2, scale: 3, softcap: 4 } as const;
const FLOAT_BYTES = 4;

type MoeNode = Extract<Node, { op: 'moe' }>;

export interface NativeTarget {
  readonly kernels: Kernels;
  /** Function that widens rows of a type that the kernels do not know. */
  readonly toFloat: ToFloat;
}

/** What a graph needs before its memory is there. */
export interface GraphLayout {
  readonly graph: OpGraph;
  readonly batch: NativeBatch | undefined;
  readonly arena: ArenaPlan;
  readonly direct: ReadonlyMap<number, Tensor>;
}

/** Steps at fixed addresses. */
export interface NativeSteps {
  readonly bytes: Uint8Array;
  readonly count: number;
  /** Kept as long as the steps: they point there. */
  readonly kept: readonly ArrayBufferView[];
}

export function layOut(target: NativeTarget, graph: OpGraph, batch: NativeBatch | undefined): GraphLayout {
  const direct = directStores(graph);
  const requests = graph.nodes.map((node, index): ArenaRequest => ({
    result: node.op === 'load' || node.op === 'store' || direct.has(index) ? 0 : node.out.rows * node.out.columns * FLOAT_BYTES,
    scratch: scratchBytes(target, node),
  }));
  return { graph, batch, arena: planArena(graph, requests), direct };
}

/** `base` is memory for the layout's arena. */
export function lowerSteps(target: NativeTarget, layout: GraphLayout, base: Address): NativeSteps {
  const lowering = new Lowering(target, layout, base);
  for (const node of layout.graph.nodes) lowering.lower(node);
  const bytes = encodeSteps(lowering.steps);
  return { bytes, count: lowering.steps.length, kept: [...lowering.steps.map((step) => step.bytes), ...lowering.places] };
}

function scratchBytes({ kernels, toFloat }: NativeTarget, node: Node): number {
  if (node.op === 'moe') return kernels.moeScratchBytes(moeArguments(toFloat, node, () => null));
  if (node.op !== 'linear') return 0;
  const { x, weight } = node;
  const types = weight.segments.map(({ tensor }) => KERNEL_TYPE[tensor.dtype]);
  return Math.max(...types.map((type) => kernels.linearScratchBytes(type, x.rows, x.columns)));
}

class Lowering {
  readonly steps: { readonly op: KernelOp; readonly bytes: Uint8Array }[] = [];
  /** Of experts: steps point there. */
  readonly places: ArrayBufferView[] = [];
  readonly #toFloat: ToFloat;
  readonly #layout: GraphLayout;
  readonly #base: Address;
  readonly #values: Address[] = [];

  constructor({ toFloat }: NativeTarget, layout: GraphLayout, base: Address) {
    this.#toFloat = toFloat;
    this.#layout = layout;
    this.#base = base;
  }

  lower(node: Node): void {
    const index = this.#values.length;
    const { arena, direct } = this.#layout;
    const target = direct.get(index);
    const y = target ? nativeTensor(target).address : this.#base + BigInt(arena.results[index]!);
    const scratch = this.#base + BigInt(arena.scratch[index]!);
    this.#values.push(this.#lower(node, y, scratch));
  }

  /** @returns where the result is */
  #lower(node: Node, y: Address, scratch: Address): Address {
    const { rows, columns } = node.out;
    const shape = { rows, columns };
    switch (node.op) {
      case 'load':
        return nativeTensor(node.tensor).address;
      case 'store': {
        const target = nativeTensor(node.tensor).address;
        if (this.#value(node.x) !== target) this.#push('select', { ...shape, x: this.#value(node.x), other: null, ids: null, y: target });
        return target;
      }
      case 'select':
        this.#push('select', { ...shape, x: nativeTensor(node.tensor).address, other: null, ids: nativeTensor(node.ids).address, y });
        return y;
      case 'byLength': {
        const ids = addressOf(this.#batchOf(node).byLength(node.limit));
        this.#push('select', { ...shape, x: this.#value(node.short), other: this.#value(node.long), ids, y });
        return y;
      }
      case 'embed': {
        const batch = this.#batchOf(node);
        const ids = addressOf(node.by === 'token' ? batch.tokens : batch.positions);
        for (const { from, tensor } of node.table.segments)
          this.#push('embed', { table: describe(this.#toFloat, tensor, columns), ids, y, m: rows, offset: node.offset - from });
        return y;
      }
      case 'linear':
        for (const segment of node.weight.segments) this.#linear(node, segment, y, scratch);
        return y;
      case 'norm':
        this.#norm(node, y);
        return y;
      case 'rope':
        this.#rope(node, y);
        return y;
      case 'attention':
        this.#attention(node, y);
        return y;
      case 'moe':
        this.#moe(node, y, scratch);
        return y;
      default:
        this.#map(node, y);
        return y;
    }
  }

  #map(node: Extract<Node, { op: 'add' | 'multiply' | 'scale' | 'softcap' }>, y: Address): void {
    const { rows, columns } = node.out;
    if (node.op === 'scale' || node.op === 'softcap') {
      const factor = node.op === 'scale' ? node.factor : node.cap;
      this.#push('map', { a: this.#value(node.x), b: null, y, rows, columns, kind: MAP_KINDS[node.op], factor });
      return;
    }
    const byRow = node.op === 'multiply' && node.b.columns === 1 && columns > 1;
    const kind = MAP_KINDS[byRow ? 'multiplyRows' : node.op];
    this.#push('map', { a: this.#value(node.a), b: this.#value(node.b), y, rows, columns, kind, factor: 0 });
  }

  #linear(node: Extract<Node, { op: 'linear' }>, segment: WeightSegment, y: Address, scratch: Address): void {
    const { x, bias, activation, factors, residual, out } = node;
    const shift = BigInt(segment.from * FLOAT_BYTES);
    this.#push('linear', {
      weight: describe(this.#toFloat, segment.tensor, x.columns),
      x: this.#value(x),
      y: y + shift,
      bias: bias ? vectorAddress(bias) + shift : null,
      factors: factors ? this.#value(factors) + shift : null,
      residual: residual ? this.#value(residual) + shift : null,
      scratch,
      ldy: out.columns,
      m: x.rows,
      activation: activation ? ACTIVATIONS[activation] : 0,
    });
  }

  #norm({ x, weight, bias, groups, kind, epsilon }: Extract<Node, { op: 'norm' }>, y: Address): void {
    const vector = (of: Weight | undefined): Address | null => (of ? vectorAddress(of) : null);
    const parts = { rows: x.rows, columns: x.columns, groups, kind: kind === 'rms' ? 1 : 0, epsilon };
    this.#push('norm', { x: this.#value(x), y, weight: vector(weight), bias: vector(bias), ...parts });
  }

  #rope(node: Extract<Node, { op: 'rope' }>, y: Address): void {
    const { x, headDim, rotaryDims, style, divisors, factor } = node;
    this.#push('rope', {
      x: this.#value(x),
      y,
      positions: addressOf(this.#batchOf(node).positions),
      divisors: vectorAddress(divisors),
      rows: x.rows,
      columns: x.columns,
      head: headDim,
      rotary: rotaryDims,
      style: style === 'half' ? 0 : 1,
      factor,
    });
  }

  #attention(node: Extract<Node, { op: 'attention' }>, y: Address): void {
    const { q, k, v, cache, heads, kvHeads, headDim, scale, window = Infinity, softcap = 0, sparsity = 1 } = node;
    const keys = nativeTensor(cache.keys);
    this.#push('attention', {
      q: this.#value(q),
      k: this.#value(k),
      v: this.#value(v),
      keys: keys.address,
      values: nativeTensor(cache.values).address,
      staged_keys: cache.staged ? nativeTensor(cache.staged.keys).address : null,
      staged_values: cache.staged ? nativeTensor(cache.staged.values).address : null,
      y,
      batch: this.#batchOf(node).rows(window),
      type: KERNEL_TYPE[keys.dtype],
      heads,
      kv_heads: kvHeads,
      head: headDim,
      window: Number.isFinite(window) ? window : 0,
      scale,
      softcap,
      sparsity,
    });
  }

  #moe(node: MoeNode, y: Address, scratch: Address): void {
    const values = moeArguments(this.#toFloat, node, (weight) => {
      const places = placesOf(weight, node.logits.columns);
      this.places.push(places);
      return addressOf(places);
    });
    this.#push('moe', { ...values, x: this.#value(node.x), logits: this.#value(node.logits), y, scratch });
  }

  #push(op: KernelOp, values: KernelArguments): void {
    this.steps.push({ op, bytes: encodeArguments(op, values) });
  }

  #value({ node }: Value): Address {
    return this.#values[node]!;
  }

  #batchOf({ op }: Node): NativeBatch {
    if (!this.#layout.batch) throw internalError(`${op} needs a batch`);
    return this.#layout.batch;
  }
}

/** Without values and memory. */
function moeArguments(toFloat: ToFloat, node: MoeNode, places: (weight: Weight) => Address | null): KernelArguments {
  const { x, logits, gate, up, down, used, normalise, activation } = node;
  const stack = (weight: Weight): KernelStack => ({ each: describeStack(toFloat, weight, logits.columns), places: places(weight) });
  return {
    gate: stack(gate),
    up: stack(up),
    down: stack(down),
    x: null,
    logits: null,
    y: null,
    scratch: null,
    rows: x.rows,
    columns: x.columns,
    inner: down.shape[1]!,
    experts: logits.columns,
    used,
    normalise: normalise ? 1 : 0,
    activation: ACTIVATIONS[activation],
  };
}
