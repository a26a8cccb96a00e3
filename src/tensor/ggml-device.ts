/** Devices on ggml: the CPU, and any GPU backend that a platform package carries. */
import { type TensorPointer, type Backend, type GgmlBase, type Graph, type GraphAllocator, STATUS_SUCCESS } from '../native/ggml.ts';
import { type Ggml, openGgml } from '../native/open-ggml.ts';
import { findLibraryDirectory } from '../native/libraries.ts';
import { MemoryError, NativeError, internalError } from '../util/errors.ts';
import { Turns } from '../util/turns.ts';
import type {
  Arena,
  ArenaRules,
  Batch,
  BatchNeeds,
  BatchRow,
  Device,
  DeviceCapabilities,
  DeviceMemory,
  DeviceRoom,
  HostArena,
  Program,
  Tensor,
  Tier,
} from './device.ts';
import type { DType } from './dtype.ts';
import { arenaRules, GgmlArena, GgmlHostArena, hostViewOf, isPlaced, MOST_LOCKED_BYTES, renewPlaced } from './ggml-arena.ts';
import { GgmlBatch, batchKey } from './ggml-batch.ts';
import { type LoweringTarget, lowerGraph } from './ggml-lowering.ts';
import { MemoryMeter, TensorGroup, type TensorRequest, pointerOf } from './ggml-memory.ts';
import { GgmlThreads } from './ggml-threads.ts';
import { ggmlCapabilities } from './ggml-types.ts';
import type { OpGraph } from './op-graph.ts';
import { GgmlProgram } from './ggml-program.ts';
import { isSoftware, roomOf } from './ggml-room.ts';
import { checkBatch } from './row-batch.ts';
import { checkByteRange } from './tracked-tensor.ts';

export interface GgmlDeviceOptions {
  /** `cpu`, `vulkan`, `cuda` or `metal`. */
  readonly backend: string;
  /** CPU threads, including the one that computes graphs. */
  readonly threads: number;
  /** Of the devices that the backend has. Default 0. */
  readonly index?: number;
  /** Compute f32 in f32: Vulkan rounds to f16 where that is faster unless told. */
  readonly exact?: boolean;
}

/** Copies within a device go through memory of at most this size. */
const COPY_CHUNK_BYTES = 1 << 20;
/** Writes from this size on do not hold up the event loop. */
const ASYNC_BYTES = 1 << 20;
/** Copies to a GPU go in pieces of this size, so that a graph need not wait long for its turn where it has to. */
const UPLOAD_BYTES = 16 << 20;
/**
 * GPU backends whose memory is written while a graph runs on another thread: CUDA copies on a stream of the thread, Vulkan holds a lock of the device while
 * it records and submits. There, what is large or placed in an arena does not wait. Metal's is not known to be safe, so writes and graphs take turns there.
 */
const WRITES_BESIDE: ReadonlySet<string> = new Set(['cuda', 'vulkan']);

/** How many devices a backend has. @throws {NativeError} as `openGgmlDevice` */
export function countGgmlDevices(backend: string, exact?: boolean): number {
  const { base, registry } = openGgml(backend, findLibraryDirectory(backend), exact);
  return base.regDeviceCount(registry);
}

/** @throws {NativeError} when the backend is not installed or does not start */
export async function openGgmlDevice(options: GgmlDeviceOptions): Promise<Device> {
  const ggml = openGgml(options.backend, findLibraryDirectory(options.backend), options.exact);
  const native = ggml.base.regDevice(ggml.registry, options.index ?? 0);
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

class GgmlDevice implements Device {
  readonly name: string;
  readonly tier: Tier;
  readonly capabilities: DeviceCapabilities;
  readonly arenaRules: ArenaRules;
  readonly #ggml: Ggml;
  readonly #base: GgmlBase;
  #backend: Backend;
  /** Only of the CPU. */
  readonly #threads: GgmlThreads | undefined;
  readonly #target: LoweringTarget;
  readonly #meter = new MemoryMeter();
  /** Of RAM beside the device. */
  readonly #hostMeter = new MemoryMeter();
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
  readonly #lane = new Turns();
  /** The same of large writes, on backends that take them while a graph runs. */
  readonly #uploads = new Turns();
  #disposed = false;

  constructor(ggml: Ggml, backend: Backend, threads: GgmlThreads | undefined, name: string) {
    this.#ggml = ggml;
    this.#base = ggml.base;
    this.#backend = backend;
    this.#threads = threads;
    this.name = name;
    this.tier = ggml.cpu ? 'cpu' : 'gpu';
    this.capabilities = ggmlCapabilities(ggml.base, backend);
    this.#target = {
      ggml: ggml.base,
      alignment: ggml.base.alignment(backend),
      checkedBy: ggml.cpu ? undefined : ggml.base.backendDevice(backend),
    };
    const type = ggml.base.defaultBufferType(backend);
    this.arenaRules = arenaRules(ggml.base, type);
    this.#scratch = ggml.base.gallocrNew(type);
  }

  memory(): DeviceMemory {
    return { usedBytes: this.#meter.usedBytes, peakBytes: this.#meter.peakBytes, hostBytes: this.#hostMeter.usedBytes };
  }

  allocate(name: string, dtype: DType, shape: readonly number[]): Tensor {
    this.#checkOpen();
    return new TensorGroup(this.#base, this.#backend, this.#meter, [{ name, dtype, shape }], this.tier === 'cpu').tensors[0]!;
  }

  reserve(name: string, byteLength: number): Arena {
    this.#checkOpen();
    const type = this.#base.defaultBufferType(this.#backend);
    return new GgmlArena(this.#base, this.#meter, { name, byteLength, type, isPlain: this.tier === 'cpu' });
  }

  reserveHost(name: string, byteLength: number): HostArena {
    this.#checkOpen();
    const locked = byteLength <= MOST_LOCKED_BYTES && this.#base.hostBufferType(this.#base.backendDevice(this.#backend));
    const type = locked || this.#base.cpuBufferType();
    return new GgmlHostArena(this.#base, this.#hostMeter, { name, byteLength, type, isPlain: !locked });
  }

  renew(tensor: Tensor): void {
    this.#checkOpen();
    renewPlaced(tensor);
  }

  room(): DeviceRoom | undefined {
    return this.#ggml.cpu ? undefined : roomOf(this.#ggml, this.#base.backendDevice(this.#backend));
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    checkByteRange(tensor, offset, bytes.byteLength);
    if (bytes.byteLength === 0) return;
    const pointer = pointerOf(tensor);
    if (!this.#goesBeside(tensor, bytes.byteLength))
      return this.#transfer(() => this.#base.tensorSet(pointer, bytes, offset, bytes.byteLength));
    if (this.#ggml.cpu) return this.#writeAside(pointer, offset, bytes);
    // One at a time: there is one way to a GPU, and graphs want a thread of the same pool.
    await this.#uploads.take(() => this.#writeAside(pointer, offset, bytes));
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    checkByteRange(tensor, offset, target.byteLength);
    if (target.byteLength === 0) return;
    await this.#transfer(() => this.#base.tensorGet(pointerOf(tensor), target, offset, target.byteLength));
  }

  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    const host = hostViewOf(source, sourceOffset, byteLength);
    const size = Math.min(byteLength, host ? UPLOAD_BYTES : COPY_CHUNK_BYTES);
    const chunk = host ? undefined : new Uint8Array(size);
    for (let done = 0; done < byteLength; done += size) {
      const length = Math.min(size, byteLength - done);
      const part = host ? host.subarray(done, done + length) : chunk!.subarray(0, length);
      if (!host) await this.read(source, sourceOffset + done, part);
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
    await this.#lane.take(() => this.#compute(program));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await Promise.all([this.#lane.idle(), this.#uploads.idle()]);
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
    if (!device || this.#meter.frees === this.#freesAtStart || !isSoftware(this.name)) return;
    const backend = this.#base.deviceInit(device, null);
    if (!backend) throw new NativeError(`${this.name}: did not start again`);
    this.#base.backendFree(this.#backend);
    this.#backend = backend;
    this.#freesAtStart = this.#meter.frees;
  }

  /** Whether a write need not wait for the graph that runs. None reads an arena's tensor while that is written. */
  #goesBeside(tensor: Tensor, byteLength: number): boolean {
    const isLarge = byteLength >= ASYNC_BYTES;
    return this.#ggml.cpu ? isLarge : WRITES_BESIDE.has(this.#ggml.name) && (isLarge || isPlaced(tensor));
  }

  /** On another thread: a GPU takes its time, and fresh memory takes longer to be had from the system than to be filled. */
  async #writeAside(pointer: TensorPointer, offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    await new Promise<void>((resolve, reject) => {
      this.#base.tensorSet.async(pointer, bytes, offset, bytes.byteLength, (error) => (error ? reject(error) : resolve()));
    });
  }

  /** A backend with its own memory is entered by one thread at a time; plain memory may be copied while a graph runs. */
  async #transfer(call: () => void): Promise<void> {
    this.#checkOpen();
    if (this.#ggml.cpu) return call();
    await this.#lane.take(call);
  }

  #checkOpen(): void {
    if (this.#disposed) throw internalError(`device ${this.name} is used after it was closed`);
  }
}
