/** Tensors in memory that the kernels were given. */
import { type Address, type Kernels, MOST_VIEWED_BYTES, viewOf } from '../native/kernels.ts';
import { internalError, MemoryError } from '../util/errors.ts';
import type { Arena, Tensor } from './device.ts';
import { byteLengthOf, type DType, elementCount } from './dtype.ts';
import type { MemoryMeter } from './ggml-memory.ts';
import { checkPlace } from './tracked-tensor.ts';

/** Memory of one device, freed exactly once. */
export class NativeMemory implements Disposable {
  readonly byteLength: number;
  readonly #kernels: Kernels;
  readonly #meter: MemoryMeter;
  #address: Address | undefined;

  /** @throws {MemoryError} naming `what`, the bytes asked for and those in use */
  constructor(kernels: Kernels, meter: MemoryMeter, what: string, byteLength: number) {
    const address = kernels.memoryCreate(byteLength);
    if (!address) {
      const { usedBytes } = meter;
      throw new MemoryError(`out of memory: ${byteLength} bytes for ${what} could not be allocated, ${usedBytes} are in use`, {
        bytes: byteLength,
        usedBytes,
      });
    }
    this.#kernels = kernels;
    this.#meter = meter;
    this.#address = address;
    this.byteLength = byteLength;
    meter.add(byteLength);
  }

  /** Undefined once it is freed. */
  get address(): Address | undefined {
    return this.#address;
  }

  [Symbol.dispose](): void {
    if (this.#address === undefined) return;
    this.#kernels.memoryFree(this.#address);
    this.#address = undefined;
    this.#meter.add(-this.byteLength);
  }
}

/** Bytes of a NativeMemory, from `offset` on. */
interface Place {
  readonly memory: NativeMemory;
  readonly offset: number;
}

export class NativeTensor implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** Whole groups of 32 rows are in the order of the kernels. */
  packed = false;
  readonly #place: Place;
  readonly #owns: boolean;
  /** Made once: the collector counts the bytes of every view as garbage to come, and runs the more often. */
  #view: Uint8Array | undefined;

  /** `owns`: the memory is freed with the tensor. */
  constructor(name: string, dtype: DType, shape: readonly number[], place: Place, owns: boolean) {
    this.name = name;
    this.dtype = dtype;
    this.shape = [...shape];
    this.byteLength = byteLengthOf(dtype, elementCount(shape));
    this.#place = place;
    this.#owns = owns;
  }

  get address(): Address {
    const { address } = this.#place.memory;
    if (address === undefined) throw internalError(`tensor ${this.name} is used after it was freed`);
    return address + BigInt(this.#place.offset);
  }

  /** Some of its bytes. */
  bytes(offset: number, byteLength: number): Uint8Array {
    const { address } = this;
    if (this.byteLength > MOST_VIEWED_BYTES) return viewOf(address + BigInt(offset), byteLength);
    this.#view ??= viewOf(address, this.byteLength);
    return this.#view.subarray(offset, offset + byteLength);
  }

  [Symbol.dispose](): void {
    if (this.#owns) this.#place.memory[Symbol.dispose]();
  }
}

export class NativeArena implements Arena {
  readonly byteLength: number;
  readonly #memory: NativeMemory;

  constructor(memory: NativeMemory) {
    this.#memory = memory;
    this.byteLength = memory.byteLength;
  }

  place(name: string, dtype: DType, shape: readonly number[], offset: number): Tensor {
    const tensor = new NativeTensor(name, dtype, shape, { memory: this.#memory, offset }, false);
    checkPlace(this, tensor, offset);
    return tensor;
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }
}

/** The native tensor behind a contract's tensor. */
export function nativeTensor(tensor: Tensor): NativeTensor {
  if (tensor instanceof NativeTensor) return tensor;
  throw internalError(`tensor ${tensor.name} belongs to another device`);
}
