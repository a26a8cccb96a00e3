/** The CPU with our own kernels. */
import { type Address, type Kernels, type Team } from '../native/kernels.ts';
import { openBase } from '../native/open-ggml.ts';
import { toFloatAddress } from '../native/type-traits.ts';
import { internalError, NativeError } from '../util/errors.ts';
import { Turns } from '../util/turns.ts';
import type { Arena, Batch, BatchNeeds, BatchRow, Device, DeviceCapabilities, DeviceMemory, Program, Tensor, Tier } from './device.ts';
import { blockElements, KV_TYPES, byteLengthOf, type DType, elementCount, WEIGHT_TYPES } from './dtype.ts';
import { MemoryMeter } from './ggml-memory.ts';
import { NativeBatch } from './native-batch.ts';
import { type GraphLayout, layOut, lowerSteps, type NativeSteps, type NativeTarget } from './native-lowering.ts';
import { NativeArena, NativeMemory, NativeTensor, nativeTensor } from './native-memory.ts';
import { KERNEL_TYPE } from './native-types.ts';
import type { OpGraph } from './op-graph.ts';
import { checkBatch, tokenCountKey } from './row-batch.ts';
import { checkByteRange } from './tracked-tensor.ts';

/** Writes from this size on do not hold up the event loop. */
const ASYNC_BYTES = 1 << 20;
/** Rows that lie together in the order of the kernels: FLX_PANEL. */
const PANEL_ROWS = 32;

const FLOATS = ['f32', 'f16', 'bf16'] as const;

const capabilitiesOf = (kernels: Kernels): DeviceCapabilities => ({
  exactWeights: FLOATS.filter((type) => kernels.exact(KERNEL_TYPE[type])),
  weights: [...FLOATS, ...WEIGHT_TYPES.filter((type) => blockElements(type) > 1)],
  kv: KV_TYPES,
  pagedAttention: true,
  stagedPages: true,
  cacheOrder: 'heads',
  sparseAttention: true,
  splitLookups: true,
});

/** @throws {NativeError} when the system gives no threads */
export function openNativeDevice(kernels: Kernels, threads: number): Device {
  const team = kernels.teamCreate(threads);
  if (!team) throw new NativeError(`kernels ${kernels.isa}: ${threads} threads could not be started`);
  return new NativeDevice(kernels, team, threads);
}

class NativeProgram implements Program {
  readonly name: string;
  readonly layout: GraphLayout;
  /** For the memory of intermediate results that has this address. */
  steps: { readonly base: Address; readonly native: NativeSteps } | undefined;
  disposed = false;

  constructor(layout: GraphLayout) {
    this.name = layout.graph.name;
    this.layout = layout;
  }

  [Symbol.dispose](): void {
    this.disposed = true;
    this.steps = undefined;
  }
}

class NativeDevice implements Device {
  readonly name: string;
  readonly tier: Tier = 'cpu';
  readonly capabilities: DeviceCapabilities;
  readonly #kernels: Kernels;
  readonly #team: Team;
  readonly #target: NativeTarget;
  readonly #meter = new MemoryMeter();
  /** Of intermediate results, shared by all programs: they run one after another and leave nothing behind. */
  #arena: NativeMemory | undefined;
  /** The call in flight; the next one waits for it. */
  readonly #lane = new Turns();
  #disposed = false;

  constructor(kernels: Kernels, team: Team, threads: number) {
    this.name = `kernels ${kernels.isa}, ${threads} threads`;
    this.capabilities = capabilitiesOf(kernels);
    this.#kernels = kernels;
    this.#team = team;
    this.#target = { kernels, toFloat: (type) => (kernels.packs(type, 256) ? null : toFloatAddress(openBase(), type)) };
  }

  memory(): DeviceMemory {
    return { usedBytes: this.#meter.usedBytes, peakBytes: this.#meter.peakBytes };
  }

  allocate(name: string, dtype: DType, shape: readonly number[]): Tensor {
    this.#checkOpen();
    const memory = new NativeMemory(this.#kernels, this.#meter, name, byteLengthOf(dtype, elementCount(shape)));
    return new NativeTensor(name, dtype, shape, { memory, offset: 0 }, true);
  }

  async claim(tensor: Tensor): Promise<void> {
    this.#checkOpen();
    await callAsync((done) => this.#kernels.memoryClaim.async(nativeTensor(tensor).address, tensor.byteLength, done));
  }

  reserve(name: string, byteLength: number): Arena {
    this.#checkOpen();
    return new NativeArena(new NativeMemory(this.#kernels, this.#meter, name, byteLength));
  }

  renew(tensor: Tensor): void {
    nativeTensor(tensor).packed = false;
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    this.#checkOpen();
    checkByteRange(tensor, offset, bytes.byteLength);
    const native = nativeTensor(tensor);
    if (native.packed) throw internalError(`tensor ${tensor.name} is written after it was packed`);
    if (bytes.byteLength < ASYNC_BYTES) {
      native.bytes(offset, bytes.byteLength).set(bytes);
      return;
    }
    // Fresh memory takes longer to be had from the system than to be filled.
    await callAsync((done) => this.#kernels.copy.async(native.address + BigInt(offset), bytes, bytes.byteLength, done));
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    this.#checkOpen();
    checkByteRange(tensor, offset, target.byteLength);
    target.set(nativeTensor(tensor).bytes(offset, target.byteLength));
  }

  view(tensor: Tensor, offset: number, byteLength: number): Uint8Array {
    this.#checkOpen();
    checkByteRange(tensor, offset, byteLength);
    return nativeTensor(tensor).bytes(offset, byteLength);
  }

  async withKernels<T>(call: (kernels: Kernels, team: Team) => Promise<T>): Promise<T> {
    return this.#lane.take(async () => {
      this.#checkOpen();
      return call(this.#kernels, this.#team);
    });
  }

  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    checkByteRange(source, sourceOffset, byteLength);
    checkByteRange(target, targetOffset, byteLength);
    const [from, to] = [nativeTensor(source).address + BigInt(sourceOffset), nativeTensor(target).address + BigInt(targetOffset)];
    if (byteLength < ASYNC_BYTES) this.#kernels.copy(to, from, byteLength);
    else await callAsync((done) => this.#kernels.copy.async(to, from, byteLength, done));
  }

  async pack(tensor: Tensor, parts: number): Promise<void> {
    const native = nativeTensor(tensor);
    const [n = 0, k = 0] = tensor.shape;
    const type = KERNEL_TYPE[tensor.dtype];
    if (tensor.shape.length !== 2 || (n / parts) % (parts > 1 ? PANEL_ROWS : 1) !== 0 || !this.#kernels.packs(type, k)) return;
    const weight = { data: native.address, row_bytes: byteLengthOf(tensor.dtype, k), type, packed: 0, n, k, to_float: null };
    await this.#lane.take(() => callAsync((done) => this.#kernels.pack.async(this.#team, weight, done)));
    native.packed = true;
  }

  batchKey(rows: readonly BatchRow[]): string {
    return tokenCountKey(rows);
  }

  createBatch(rows: readonly BatchRow[], needs?: BatchNeeds): Batch {
    this.#checkOpen();
    return new NativeBatch(rows, needs);
  }

  compile(graph: OpGraph, batch?: Batch): Program {
    this.#checkOpen();
    if (batch && !(batch instanceof NativeBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    checkBatch(graph, batch);
    return new NativeProgram(layOut(this.#target, graph, batch));
  }

  async run(program: Program): Promise<void> {
    if (!(program instanceof NativeProgram)) throw internalError(`program ${program.name} belongs to another device`);
    await this.#lane.take(() => this.#compute(program));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#disposed) return;
    this.#disposed = true;
    await this.#lane.idle();
    this.#arena?.[Symbol.dispose]();
    this.#kernels.teamFree(this.#team);
  }

  async #compute(program: NativeProgram): Promise<void> {
    this.#checkOpen();
    if (program.disposed) throw internalError(`program ${program.name} is run after it was freed`);
    program.layout.batch?.check();
    const base = this.#reserve(program);
    if (program.steps?.base !== base) program.steps = { base, native: lowerSteps(this.#target, program.layout, base) };
    const { bytes, count } = program.steps.native;
    await callAsync((done) => this.#kernels.run.async(this.#team, bytes, count, done));
  }

  /** Only while nothing runs: growing moves the memory of intermediate results. */
  #reserve({ name, layout }: NativeProgram): Address {
    const needed = Math.max(1, layout.arena.bytes);
    if (!this.#arena || this.#arena.byteLength < needed) {
      this.#arena?.[Symbol.dispose]();
      this.#arena = undefined;
      this.#arena = new NativeMemory(this.#kernels, this.#meter, `intermediate results of graph ${name}`, needed);
    }
    return this.#arena.address!;
  }

  #checkOpen(): void {
    if (this.#disposed) throw internalError(`device ${this.name} is used after it was closed`);
  }
}

const callAsync = (call: (done: (error: Error | null) => void) => void): Promise<void> =>
  new Promise((resolve, reject) => {
    call((error) => (error ? reject(error) : resolve()));
  });
