import { internalError, MemoryError } from '../util/errors.ts';
import { type Arena, ARENA_ALIGNMENT, type DeviceMemory, type Tensor } from './device.ts';
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

interface TrackedRequest<Contents> {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  /** Where it is placed, if its memory is not its own. */
  readonly arena?: TrackedArena<Contents>;
}

/** A tensor whose contents, if it has any, are a JavaScript value. */
export class TrackedTensor<Contents> implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  readonly #ledger: MemoryLedger;
  /** Where it is placed, if its memory is not its own. */
  readonly arena: TrackedArena<Contents> | undefined;
  #contents: Contents | undefined;
  #lost = false;
  #disposed = false;

  constructor(ledger: MemoryLedger, { name, dtype, shape, arena }: TrackedRequest<Contents>, make: (byteLength: number) => Contents) {
    if (!shape.every((n) => Number.isSafeInteger(n) && n > 0)) throw internalError(`tensor ${name}: bad shape [${shape.join(', ')}]`);
    this.name = name;
    this.dtype = dtype;
    this.shape = [...shape];
    this.byteLength = byteLengthOf(dtype, elementCount(shape));
    this.#ledger = ledger;
    this.arena = arena;
    if (!arena) ledger.take(name, this.byteLength);
    this.#contents = make(this.byteLength);
  }

  /** The contents, for the device that made the tensor. Throws after disposal and for the tensor of another device. */
  open(ledger: MemoryLedger): Contents {
    if (ledger !== this.#ledger) throw internalError(`tensor ${this.name} belongs to another device`);
    if (this.#disposed) throw internalError(`tensor ${this.name} is used after it was disposed`);
    if (this.#lost) throw internalError(`tensor ${this.name} is used after another one took its place`);
    return this.#contents as Contents;
  }

  lose(): void {
    this.#lost = true;
    this.#contents = undefined;
  }

  fill(contents: Contents): void {
    this.#lost = false;
    this.#contents = contents;
  }

  [Symbol.dispose](): void {
    if (this.#disposed || this.arena) return;
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

/** Throws unless a tensor may lie `offset` bytes behind the start of an arena. */
export function checkPlace(
  arena: Pick<Arena, 'byteLength'>,
  { name, byteLength }: Pick<Tensor, 'name' | 'byteLength'>,
  offset: number,
): void {
  if (offset % ARENA_ALIGNMENT !== 0 || offset < 0 || offset + byteLength > arena.byteLength)
    throw internalError(`tensor ${name}: bytes ${offset} to ${offset + byteLength} of an arena of ${arena.byteLength}`);
}

/**
 * An arena of a device in TypeScript. Tensors have contents of their own, lost when another one is placed over them, so that whoever reads what was
 * overwritten is found out.
 */
export class TrackedArena<Contents> implements Arena {
  readonly byteLength: number;
  readonly #ledger: MemoryLedger;
  readonly #make: (dtype: DType, byteLength: number) => Contents;
  readonly #placed: { readonly tensor: TrackedTensor<Contents>; readonly from: number; readonly to: number }[] = [];
  #disposed = false;

  constructor(ledger: MemoryLedger, name: string, byteLength: number, make: (dtype: DType, byteLength: number) => Contents) {
    ledger.take(name, byteLength);
    this.#ledger = ledger;
    this.byteLength = byteLength;
    this.#make = make;
  }

  place(name: string, dtype: DType, shape: readonly number[], offset: number): Tensor {
    const tensor = new TrackedTensor(this.#ledger, { name, dtype, shape, arena: this }, (byteLength) => this.#make(dtype, byteLength));
    checkPlace(this, tensor, offset);
    this.#placed.push({ tensor, from: offset, to: offset + tensor.byteLength });
    return tensor;
  }

  /** The tensor will be written: what others had in its place is gone. */
  renew(tensor: Tensor): void {
    const { from, to } = this.#placed.find((each) => each.tensor === tensor)!;
    for (const other of this.#placed) if (other.from < to && from < other.to) other.tensor.lose();
    const own = this.#placed.find((each) => each.tensor === tensor)!.tensor;
    own.fill(this.#make(own.dtype, own.byteLength));
  }

  [Symbol.dispose](): void {
    if (this.#disposed) return;
    this.#disposed = true;
    for (const { tensor } of this.#placed) tensor.lose();
    this.#ledger.give(this.byteLength);
  }
}

/** `Device.renew` of a device in TypeScript. */
export function renewPlaced(tensor: Tensor): void {
  if (tensor instanceof TrackedTensor && tensor.arena) tensor.arena.renew(tensor);
  else throw internalError(`tensor ${tensor.name} is not placed in an arena`);
}
