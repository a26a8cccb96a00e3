/** Devices on ggml: the CPU, and any GPU backend that a platform package carries. */
import {
  type TensorPointer,
  type Backend,
  type Context,
  type GgmlBase,
  type Graph,
  type GraphAllocator,
  STATUS_SUCCESS,
} from '../native/ggml.ts';
import { type Ggml, openGgml } from '../native/open-ggml.ts';
import { findLibraryDirectory } from '../native/libraries.ts';
import { FlexError, MemoryError, NativeError, internalError } from '../util/errors.ts';
import type { Batch, BatchNeeds, BatchRow, Device, DeviceCapabilities, DeviceMemory, Program, Tensor, Tier } from './device.ts';
import type { DType } from './dtype.ts';
import { GgmlBatch, batchKey } from './ggml-batch.ts';
import { type LoweringTarget, lowerGraph } from './ggml-lowering.ts';
import { MemoryMeter, TensorGroup, type TensorRequest, pointerOf } from './ggml-memory.ts';
import { GgmlThreads } from './ggml-threads.ts';
import { supportedQuantTypes } from './ggml-types.ts';
import type { OpGraph } from './op-graph.ts';
import { checkBatch } from './row-batch.ts';

export interface GgmlDeviceOptions {
  /** `cpu`, `vulkan`, `cuda` or `metal`. */
  readonly backend: string;
  /** CPU threads, including the one that computes graphs. */
  readonly threads: number;
  /** Compute f32 in f32: Vulkan rounds to f16 where that is faster unless told. */
  readonly exact?: boolean;
}

/** Copies within a device go through memory of at most this size. */
const COPY_CHUNK_BYTES = 1 << 20;
/** Writes from this size on do not hold up the event loop. */
const ASYNC_BYTES = 1 << 20;

/** In the description of the device. */
const SOFTWARE_DRIVER = /llvmpipe/;

/** @throws {NativeError} when the backend is not installed or does not start */
export async function openGgmlDevice(options: GgmlDeviceOptions): Promise<Device> {
  const ggml = openGgml(options.backend, findLibraryDirectory(options.backend), options.exact);
  const native = ggml.base.regDevice(ggml.registry, 0);
  const backend = ggml.base.deviceInit(native, null);
  if (!backend) throw new NativeError(`backend ${ggml.name}: device ${ggml.base.deviceDescription(native)} did not start`);
  const detail = ggml.cpu ? `${options.threads} threads` : ggml.base.deviceDescription(native);
  try {
    const threads = ggml.cpu && new GgmlThreads(ggml.base, ggml.cpu, backend, options.threads);
    return new GgmlDevice(ggml, backend, threads, `ggml ${ggml.name}, ${detail}`);
  } catch (cause) {
    ggml.base.backendFree(backend);
    throw cause;
  }
}

/** A lowered graph; lowered again when the memory of intermediate results has moved. */
class GgmlProgram implements Program {
  readonly name: string;
  readonly source: OpGraph;
  readonly batch: GgmlBatch | undefined;
  readonly #free: (context: Context) => void;
  lowered: { readonly context: Context; readonly graph: Graph; readonly generation: number } | undefined;
  disposed = false;

  constructor(source: OpGraph, batch: GgmlBatch | undefined, free: (context: Context) => void) {
    this.name = source.name;
    this.source = source;
    this.batch = batch;
    this.#free = free;
  }

  /** Frees the native graph; running the program lowers it again. */
  drop(): void {
    if (this.lowered) this.#free(this.lowered.context);
    this.lowered = undefined;
  }

  [Symbol.dispose](): void {
    this.drop();
    this.disposed = true;
  }
}

class GgmlDevice implements Device {
  readonly name: string;
  readonly tier: Tier;
  readonly capabilities: DeviceCapabilities;
  readonly #ggml: Ggml;
  readonly #base: GgmlBase;
  #backend: Backend;
  /** Only of the CPU. */
  readonly #threads: GgmlThreads | undefined;
  readonly #target: LoweringTarget;
  readonly #meter = new MemoryMeter();
  /**
   * Memory of intermediate results, shared by all graphs: they run one after another and leave nothing behind. Graphs keep the addresses
   * that they were given, until a larger graph makes it grow; then `#generation` goes up and they are lowered anew before they run.
   */
  readonly #scratch: GraphAllocator;
  #scratchBytes = 0;
  #generation = 0;
  /** Of the meter, when the backend started. */
  #freesAtStart = 0;
  /** The call in flight; the next one waits for it. */
  #lane: Promise<unknown> = Promise.resolve();
  #disposed = false;

  constructor(ggml: Ggml, backend: Backend, threads: GgmlThreads | undefined, name: string) {
    this.#ggml = ggml;
    this.#base = ggml.base;
    this.#backend = backend;
    this.#threads = threads;
    this.name = name;
    this.tier = ggml.cpu ? 'cpu' : 'gpu';
    this.capabilities = {
      // ggml rounds the activations to the type of f16 and bf16 weights, and to 8 bits for block types.
      exactWeights: ['f32'],
      weights: ['f32', 'bf16', ...supportedQuantTypes(ggml.base, ggml.base.backendDevice(backend))],
      kv: ['f32', 'f16'],
      pagedAttention: false,
      cacheOrder: 'positions',
      sparseAttention: false,
      splitLookups: false,
    };
    this.#target = {
      ggml: ggml.base,
      alignment: ggml.base.alignment(backend),
      checkedBy: ggml.cpu ? undefined : ggml.base.backendDevice(backend),
    };
    this.#scratch = ggml.base.gallocrNew(ggml.base.defaultBufferType(backend));
  }

  memory(): DeviceMemory {
    return { usedBytes: this.#meter.usedBytes, peakBytes: this.#meter.peakBytes };
  }

  allocate(name: string, dtype: DType, shape: readonly number[]): Tensor {
    this.#checkOpen();
    return new TensorGroup(this.#base, this.#backend, this.#meter, [{ name, dtype, shape }], this.tier === 'cpu').tensors[0]!;
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    checkRange('write', tensor, offset, bytes.byteLength);
    if (bytes.byteLength === 0) return;
    const pointer = pointerOf(tensor);
    if (this.#ggml.cpu && bytes.byteLength >= ASYNC_BYTES) return this.#writeAside(pointer, offset, bytes);
    await this.#transfer(() => this.#base.tensorSet(pointer, bytes, offset, bytes.byteLength));
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    checkRange('read', tensor, offset, target.byteLength);
    if (target.byteLength === 0) return;
    await this.#transfer(() => this.#base.tensorGet(pointerOf(tensor), target, offset, target.byteLength));
  }

  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    const chunk = new Uint8Array(Math.min(byteLength, COPY_CHUNK_BYTES));
    for (let done = 0; done < byteLength; done += chunk.byteLength) {
      const part = chunk.subarray(0, Math.min(chunk.byteLength, byteLength - done));
      await this.read(source, sourceOffset + done, part);
      await this.write(target, targetOffset + done, part);
    }
  }

  batchKey(rows: readonly BatchRow[], needs?: BatchNeeds): string {
    return batchKey(rows, needs);
  }

  createBatch(rows: readonly BatchRow[], needs?: BatchNeeds): Batch {
    this.#checkOpen();
    const allocate = (requests: readonly TensorRequest[]): TensorGroup =>
      new TensorGroup(this.#base, this.#backend, this.#meter, requests, this.tier === 'cpu');
    return new GgmlBatch(allocate, (tensor, bytes) => this.write(tensor, 0, bytes), rows, needs);
  }

  compile(graph: OpGraph, batch?: Batch): Program {
    this.#checkOpen();
    if (batch && !(batch instanceof GgmlBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    checkBatch(graph, batch);
    return new GgmlProgram(graph, batch, this.#base.free);
  }

  async run(program: Program): Promise<void> {
    if (!(program instanceof GgmlProgram)) throw internalError(`program ${program.name} belongs to another device`);
    const result = this.#lane.then(() => this.#compute(program));
    this.#lane = result.catch(() => {});
    await result;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#lane;
    this.#base.gallocrFree(this.#scratch);
    this.#meter.add(-this.#scratchBytes);
    this.#base.backendFree(this.#backend);
    this.#threads?.[Symbol.dispose]();
  }

  async #compute(program: GgmlProgram): Promise<void> {
    this.#checkOpen();
    if (program.disposed) throw internalError(`program ${program.name} is run after it was freed`);
    const graph = this.#ready(program);
    this.#forgetFreedMemory();
    const status = await (this.#threads ? this.#threads.measure(() => this.#call(graph)) : this.#call(graph));
    if (status !== STATUS_SUCCESS) throw new NativeError(`${this.name}: graph ${program.name} failed: ${this.#base.statusText(status)}`);
  }

  #call(graph: Graph): Promise<number> {
    return new Promise((resolve, reject) => {
      this.#base.graphCompute.async(this.#backend, graph, (error, result) => (error ? reject(error) : resolve(result)));
    });
  }

  /** Only while nothing runs: growing moves the memory of intermediate results. */
  #ready(program: GgmlProgram): Graph {
    if (program.lowered?.generation === this.#generation) return program.lowered.graph;
    program.drop();
    const { context, graph } = lowerGraph(this.#target, program.source, program.batch);
    const allocated = this.#base.gallocrAllocGraph(this.#scratch, graph);
    const bytes = this.#base.gallocrBufferSize(this.#scratch, 0);
    if (bytes !== this.#scratchBytes) {
      this.#meter.add(-this.#scratchBytes);
      this.#meter.add(bytes);
      this.#scratchBytes = bytes;
      this.#generation++;
    }
    if (!allocated) {
      this.#base.free(context);
      throw new MemoryError(`out of memory: intermediate results of graph ${program.name} could not be allocated`, { bytes });
    }
    program.lowered = { context, graph, generation: this.#generation };
    return graph;
  }

  /**
   * Mesa's software driver (22.3, of Debian 12) reads every slot of a descriptor set, also those that a shader does not use. ggml reuses its
   * sets, so that such slots may point to memory that was freed meanwhile. A new backend has new sets.
   */
  #forgetFreedMemory(): void {
    const { checkedBy: device } = this.#target;
    if (!device || this.#meter.frees === this.#freesAtStart || !SOFTWARE_DRIVER.test(this.name)) return;
    const backend = this.#base.deviceInit(device, null);
    if (!backend) throw new NativeError(`${this.name}: did not start again`);
    this.#base.backendFree(this.#backend);
    this.#backend = backend;
    this.#freesAtStart = this.#meter.frees;
  }

  /** A backend with its own memory is entered by one thread at a time; plain memory may be copied while a graph runs. */
  /** On another thread: fresh memory takes longer to be had from the system than to be filled. */
  async #writeAside(pointer: TensorPointer, offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    await new Promise<void>((resolve, reject) => {
      this.#base.tensorSet.async(pointer, bytes, offset, bytes.byteLength, (error) => (error ? reject(error) : resolve()));
    });
  }

  async #transfer(call: () => void): Promise<void> {
    this.#checkOpen();
    if (this.#ggml.cpu) return call();
    const result = this.#lane.then(call);
    this.#lane = result.catch(() => {});
    await result;
  }

  #checkOpen(): void {
    if (this.#disposed) throw internalError(`device ${this.name} is used after it was closed`);
  }
}

function checkRange(what: string, tensor: Tensor, offset: number, length: number): void {
  if (offset >= 0 && offset + length <= tensor.byteLength) return;
  throw new FlexError('shape', `${what} ${tensor.name}: bytes ${offset} to ${offset + length}, it has ${tensor.byteLength}`);
}
