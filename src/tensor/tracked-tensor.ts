import { internalError, MemoryError } from '../util/errors.ts';
import type { DeviceMemory, Tensor } from './device.ts';
import { byteLengthOf, type DType, elementCount } from './dtype.ts';

/** Counts the bytes of one device's tensors. */
export class MemoryLedger {
  readonly #limitBytes: number;
  #usedBytes = 0;
  #peakBytes = 0;

  constructor(limitBytes: number = Infinity) {
    this.#limitBytes = limitBytes;
  }

  snapshot(): DeviceMemory {
    return { usedBytes: this.#usedBytes, peakBytes: this.#peakBytes };
  }

  /** @throws {MemoryError} */
  take(what: string, bytes: number): void {
    const usedBytes = this.#usedBytes;
    if (usedBytes + bytes > this.#limitBytes) {
      const problem = `${what}: ${bytes} bytes asked for, ${usedBytes} of ${this.#limitBytes} in use`;
      throw new MemoryError(`${problem}; use fewer sequences at a time or a smaller model`, {
        bytes,
        usedBytes,
        limitBytes: this.#limitBytes,
      });
    }
    this.#usedBytes += bytes;
    this.#peakBytes = Math.max(this.#peakBytes, this.#usedBytes);
  }

  give(bytes: number): void {
    this.#usedBytes -= bytes;
  }
}

/** A tensor whose contents, if it has any, are a JavaScript value. */
export class TrackedTensor<Contents> implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #ledger: MemoryLedger;
  #contents: Contents | undefined;
  #disposed = false;

  constructor(ledger: MemoryLedger, name: string, dtype: DType, shape: readonly number[], make: (byteLength: number) => Contents) {
    if (!shape.every((n) => Number.isSafeInteger(n) && n > 0)) throw internalError(`tensor ${name}: bad shape [${shape.join(', ')}]`);
    this.name = name;
    this.dtype = dtype;
    this.shape = [...shape];
    this.byteLength = byteLengthOf(dtype, elementCount(shape));
    this.#ledger = ledger;
    ledger.take(name, this.byteLength);
    this.#contents = make(this.byteLength);
  }

  /** The contents, for the device that made the tensor. Throws after disposal and for the tensor of another device. */
  open(ledger: MemoryLedger): Contents {
    if (ledger !== this.#ledger) throw internalError(`tensor ${this.name} belongs to another device`);
    if (this.#disposed) throw internalError(`tensor ${this.name} is used after it was disposed`);
    return this.#contents as Contents;
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    this.#contents = undefined;
    this.#ledger.give(this.byteLength);
  }
}

/** Throws unless `byteLength` bytes from `offset` on lie inside the tensor. */
export function checkByteRange(tensor: Tensor, offset: number, byteLength: number): void {
  const inside = Number.isSafeInteger(offset) && offset >= 0 && offset + byteLength <= tensor.byteLength;
  if (!inside) throw internalError(`tensor ${tensor.name} has ${tensor.byteLength} bytes, ${offset} to ${offset + byteLength} asked for`);
}
