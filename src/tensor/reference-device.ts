import { internalError } from '../util/errors.ts';
import {
  type Arena,
  type Batch,
  type BatchRow,
  type Device,
  type DeviceCapabilities,
  type DeviceMemory,
  type HostArena,
  type KvPages,
  PAGE_POSITIONS,
  type Program,
  STAGED_PAGE,
  type Tensor,
  type Tier,
  type Weight,
} from './device.ts';
import type { DType } from './dtype.ts';
import type { Node, OpGraph, Value } from './op-graph.ts';
import { newStorage, type Storage, widen } from './reference/elements.ts';
import { mixExperts } from './reference/moe.ts';
import {
  appendToCache,
  attend,
  type Elements,
  linear,
  lookUp,
  type Matrix,
  newMatrix,
  normalise,
  rotate,
  softcap,
} from './reference/ops.ts';
import { checkBatch, isLong, RowBatch, tokenCountKey } from './row-batch.ts';
import { SCRIPT_CAPABILITIES } from './script-capabilities.ts';
import { checkByteRange, MemoryLedger, renewPlaced, TrackedArena, TrackedTensor } from './tracked-tensor.ts';

export interface ReferenceDeviceOptions {
  /** Most bytes of tensors at one time. Default: no limit. */
  readonly memoryBytes?: number;
}

/** The plain TypeScript device: slow, exact, and what other devices are compared with. Needs nothing native. */
export function createReferenceDevice(options: ReferenceDeviceOptions = {}): Device {
  return new ReferenceDevice(options);
}

class ReferenceHostArena extends TrackedArena<Storage> implements HostArena {
  readonly #ledger: MemoryLedger;

  constructor(ledger: MemoryLedger, name: string, byteLength: number) {
    super(ledger, name, byteLength, newStorage);
    this.#ledger = ledger;
  }

  view(tensor: Tensor, offset: number, byteLength: number): Uint8Array {
    checkByteRange(tensor, offset, byteLength);
    return (tensor as TrackedTensor<Storage>).open(this.#ledger).bytes.subarray(offset, offset + byteLength);
  }
}

class ReferenceDevice implements Device {
  readonly name = 'reference';
  readonly tier: Tier = 'cpu';
  readonly capabilities: DeviceCapabilities = SCRIPT_CAPABILITIES;
  readonly #ledger: MemoryLedger;

  constructor({ memoryBytes }: ReferenceDeviceOptions) {
    this.#ledger = new MemoryLedger(memoryBytes);
  }

  memory(): DeviceMemory {
    return this.#ledger.snapshot();
  }

  allocate(name: string, dtype: DType, shape: readonly number[]): Tensor {
    return new TrackedTensor<Storage>(this.#ledger, { name, dtype, shape }, (byteLength) => newStorage(dtype, byteLength));
  }

  reserve(name: string, byteLength: number): Arena {
    return new TrackedArena<Storage>(this.#ledger, name, byteLength, newStorage);
  }

  reserveHost(name: string, byteLength: number): HostArena {
    return new ReferenceHostArena(this.#ledger, name, byteLength);
  }

  renew(tensor: Tensor): void {
    renewPlaced(tensor);
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    checkByteRange(tensor, offset, bytes.byteLength);
    this.#open(tensor).bytes.set(bytes, offset);
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    checkByteRange(tensor, offset, target.byteLength);
    target.set(this.#open(tensor).bytes.subarray(offset, offset + target.byteLength));
  }

  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    checkByteRange(source, sourceOffset, byteLength);
    checkByteRange(target, targetOffset, byteLength);
    const bytes = this.#open(source).bytes.subarray(sourceOffset, sourceOffset + byteLength);
    this.#open(target).bytes.set(bytes, targetOffset);
  }

  batchKey(rows: readonly BatchRow[]): string {
    return tokenCountKey(rows);
  }

  createBatch(rows: readonly BatchRow[]): Batch {
    return new RowBatch(rows);
  }

  compile(graph: OpGraph, batch?: Batch): Program {
    checkBatch(graph, batch);
    return new ReferenceProgram(graph, batch);
  }

  async run(program: Program): Promise<void> {
    if (!(program instanceof ReferenceProgram)) throw internalError(`program ${program.name} belongs to another device`);
    program.run((tensor) => this.#openForGraph(tensor));
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  /** As a GPU would, it does not see what lies in RAM beside it. */
  #openForGraph(tensor: Tensor): Storage {
    if (tensor instanceof TrackedTensor && tensor.arena instanceof ReferenceHostArena)
      throw internalError(`tensor ${tensor.name} lies in RAM beside the device`);
    return this.#open(tensor);
  }

  #open(tensor: Tensor): Storage {
    if (!(tensor instanceof TrackedTensor)) throw internalError(`tensor ${tensor.name} belongs to another device`);
    return (tensor as TrackedTensor<Storage>).open(this.#ledger);
  }
}

type Open = (tensor: Tensor) => Storage;

class ReferenceProgram implements Program {
  readonly name: string;
  readonly #batch: RowBatch | undefined;
  #graph: OpGraph | undefined;

  constructor(graph: OpGraph, batch: Batch | undefined) {
    if (batch && !(batch instanceof RowBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    this.name = graph.name;
    this.#graph = graph;
    this.#batch = batch;
  }

  run(open: Open): void {
    if (!this.#graph) throw internalError(`program ${this.name} is run after it was disposed`);
    const rows = this.#batch?.rows() ?? [];
    const results: Matrix[] = [];
    for (const node of this.#graph.nodes) results.push(compute(node, results, rows, open));
  }

  [Symbol.dispose](): void {
    this.#graph = undefined;
  }
}

function multiply(node: Extract<Node, { op: 'linear' }>, results: readonly Matrix[], open: Open, out: Matrix): void {
  const [factors, residual] = [node.factors, node.residual].map((value) => value && results[value.node]!.data);
  const options = { ...node, bias: node.bias && read(node.bias, open), factors, residual };
  const x = results[node.x.node]!;
  for (const { from, to, tensor } of node.weight.segments)
    linear(x, { data: widen(open(tensor), 0, (to - from) * x.columns), from, to }, options, out);
}

function compute(node: Node, results: readonly Matrix[], rows: readonly BatchRow[], open: Open): Matrix {
  const out = newMatrix(node.out.rows, node.out.columns);
  const result = (value: Value): Matrix => results[value.node]!;
  const vector = (weight: Weight | undefined): Float32Array | undefined => weight && read(weight, open);
  switch (node.op) {
    case 'load':
      out.data.set(widen(open(node.tensor), 0, out.data.length));
      return out;
    case 'store':
      result(node.x).data.forEach((value, index) => open(node.tensor).write(index, value));
      return result(node.x);
    case 'embed': {
      const indices = rows.flatMap((row) => (node.by === 'token' ? [...row.tokens] : positionsOf(row)).map((index) => index + node.offset));
      const pieces = node.table.segments.map(({ from, to, tensor }) => ({ from, to, elements: open(tensor) }));
      lookUp(pieces, indices, out);
      return out;
    }
    case 'select': {
      const ids = open(node.ids);
      const indices = Array.from({ length: out.rows }, (_, i) => ids.read(i));
      lookUp([{ from: 0, to: node.tensor.shape[0]!, elements: open(node.tensor) }], indices, out);
      return out;
    }
    case 'linear':
      multiply(node, results, open, out);
      return out;
    case 'norm':
      normalise(result(node.x), { ...node, weight: vector(node.weight), bias: vector(node.bias) }, out);
      return out;
    case 'add':
      return fill(out, (i) => result(node.a).data[i]! + result(node.b).data[i]!);
    case 'multiply':
      return fill(out, (i) => result(node.a).data[i]! * result(node.b).data[node.b.columns === 1 ? Math.floor(i / out.columns) : i]!);
    case 'scale':
      return fill(out, (i) => result(node.x).data[i]! * node.factor);
    case 'softcap':
      return fill(out, (i) => softcap(result(node.x).data[i]!, node.cap));
    case 'moe': {
      const [gate, up, down] = [read(node.gate, open), read(node.up, open), read(node.down, open)];
      mixExperts(result(node.x), result(node.logits), { gate, up, down }, node, out);
      return out;
    }
    case 'byLength':
      return choose(isLong(rows, node.limit), result(node.long), result(node.short), out);
    case 'rope':
      rotate(result(node.x), { ...node, divisors: read(node.divisors, open) }, rows.flatMap(positionsOf), out);
      return out;
    case 'attention': {
      const [keys, values] = [open(node.cache.keys), open(node.cache.values)];
      appendToCache(result(node.k), keys, rows, node.window);
      appendToCache(result(node.v), values, rows, node.window);
      attend({ ...node, q: result(node.q), ...withStaged({ keys, values }, node.cache.staged, node.k.columns, open) }, rows, out);
      return out;
    }
    default:
      return node satisfies never;
  }
}

interface CacheElements {
  readonly keys: Elements;
  readonly values: Elements;
}

/** A cache and its staged pages, as one that is read by page numbers. */
function withStaged({ keys, values }: CacheElements, staged: KvPages | undefined, columns: number, open: Open): CacheElements {
  if (!staged) return { keys, values };
  const first = STAGED_PAGE * PAGE_POSITIONS * columns;
  const join = (cache: Elements, pages: Elements): Elements => ({
    ...cache,
    read: (index) => (index < first ? cache.read(index) : pages.read(index - first)),
  });
  return { keys: join(keys, open(staged.keys)), values: join(values, open(staged.values)) };
}

/** Rows of `a` where `isA` says so, otherwise of `b`. */
function choose(isA: readonly boolean[], a: Matrix, b: Matrix, out: Matrix): Matrix {
  return fill(out, (i) => (isA[Math.floor(i / out.columns)] ? a : b).data[i]!);
}

function fill(out: Matrix, element: (index: number) => number): Matrix {
  for (let i = 0; i < out.data.length; i++) out.data[i] = element(i);
  return out;
}

function positionsOf({ start, tokens }: BatchRow): number[] {
  return Array.from(tokens, (_, i) => start + i);
}

/** All values of a matrix or a vector. */
function read({ shape: [rows = 0, columns = 1], segments }: Weight, open: Open): Float32Array {
  const result = new Float32Array(rows * columns);
  for (const { from, to, tensor } of segments) result.set(widen(open(tensor), 0, (to - from) * columns), from * columns);
  return result;
}
