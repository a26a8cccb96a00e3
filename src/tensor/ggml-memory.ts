/** Tensors in ggml's memory: a context (descriptions) and a buffer (data) that are freed together, exactly once. */
import { type Buffer, type Context, GGML_TYPE, type Backend, type GgmlBase, type TensorPointer } from '../native/ggml.ts';
import { adviseHugePages } from '../native/huge-pages.ts';
import { MemoryError, internalError } from '../util/errors.ts';
import { type DType, byteLengthOf, elementCount } from './dtype.ts';
import type { Tensor } from './device.ts';

/** Bytes that a device holds now and held at most. Allocations report themselves here. */
export class MemoryMeter {
  usedBytes = 0;
  peakBytes = 0;
  /** Times that memory was given back. */
  frees = 0;

  add(bytes: number): void {
    if (bytes < 0) this.frees++;
    this.usedBytes += bytes;
    this.peakBytes = Math.max(this.peakBytes, this.usedBytes);
  }
}

export interface TensorRequest {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
}

/** Several tensors in one buffer of a backend. */
export class TensorGroup implements Disposable {
  readonly tensors: readonly GgmlTensor[];
  readonly #ggml: GgmlBase;
  readonly #meter: MemoryMeter;
  readonly #byteLength: number;
  #context: Context | undefined;
  #buffer: Buffer | undefined;

  /**
   * @param isHost the backend's memory is the process's own
   * @throws {MemoryError} naming the first tensor, the bytes asked for and those in use
   */
  constructor(ggml: GgmlBase, backend: Backend, meter: MemoryMeter, requests: readonly TensorRequest[], isHost: boolean) {
    this.#ggml = ggml;
    this.#meter = meter;
    this.#context = ggml.init({ mem_size: ggml.tensorOverhead() * (requests.length + 1), mem_buffer: null, no_alloc: true });
    const pointers = requests.map((request) => newTensor(ggml, this.#context!, request));
    const buffer = ggml.allocContextTensors(this.#context, backend);
    if (!buffer) {
      ggml.free(this.#context);
      throw outOfMemory(requests, meter);
    }
    this.#buffer = buffer;
    this.#byteLength = ggml.bufferSize(buffer);
    meter.add(this.#byteLength);
    if (isHost) adviseHugePages(ggml.bufferBase(buffer), this.#byteLength);
    this.tensors = requests.map((request, i) => new GgmlTensor(request, pointers[i]!, this));
  }

  clear(): void {
    if (this.#buffer) this.#ggml.bufferClear(this.#buffer, 0);
  }

  get disposed(): boolean {
    return this.#buffer === undefined;
  }

  [Symbol.dispose](): void {
    if (!this.#buffer || !this.#context) return;
    this.#ggml.bufferFree(this.#buffer);
    this.#ggml.free(this.#context);
    this.#meter.add(-this.#byteLength);
    this.#buffer = undefined;
    this.#context = undefined;
  }
}

/** What a tensor's memory belongs to. */
export interface TensorOwner extends Disposable {
  readonly disposed: boolean;
}

export class GgmlTensor implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #pointer: TensorPointer;
  readonly #owner: TensorOwner;

  constructor({ name, dtype, shape }: TensorRequest, pointer: TensorPointer, owner: TensorOwner) {
    this.name = name;
    this.dtype = dtype;
    this.shape = shape;
    this.byteLength = byteLengthOf(dtype, elementCount(shape));
    this.#pointer = pointer;
    this.#owner = owner;
  }

  get pointer(): TensorPointer {
    if (this.#owner.disposed) throw internalError(`tensor ${this.name} is used after it was freed`);
    return this.#pointer;
  }

  /** Frees the whole group; tensors made by `Device.allocate` are alone in theirs. Those of arenas stay. */
  [Symbol.dispose](): void {
    this.#owner[Symbol.dispose]();
  }
}

/** The native tensor behind a contract's tensor. */
export function pointerOf(tensor: Tensor): TensorPointer {
  if (tensor instanceof GgmlTensor) return tensor.pointer;
  throw internalError(`tensor ${tensor.name} belongs to another device`);
}

/** Describes a tensor that has no memory yet. */
export function newTensor(ggml: GgmlBase, context: Context, { name, dtype, shape }: TensorRequest): TensorPointer {
  // ggml counts dimensions from the innermost one.
  const [ne0, ne1, ...rest] = shape.toReversed();
  if (ne0 === undefined || rest.length > 0) throw internalError(`tensor ${name}: shape [${shape.join(', ')}]`);
  if (dtype === 'g4') throw internalError(`tensor ${name}: ggml has no type g4`);
  if (ne1 === undefined) return ggml.newTensor1d(context, GGML_TYPE[dtype], ne0);
  return ggml.newTensor2d(context, GGML_TYPE[dtype], ne0, ne1);
}

function outOfMemory(requests: readonly TensorRequest[], meter: MemoryMeter): MemoryError {
  const bytes = requests.reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, elementCount(shape)), 0);
  const what = requests[0]?.name ?? 'nothing';
  return new MemoryError(`out of memory: ${bytes} bytes for ${what} could not be allocated, ${meter.usedBytes} are in use`, {
    bytes,
    usedBytes: meter.usedBytes,
  });
}
