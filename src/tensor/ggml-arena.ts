/** Arenas in ggml's memory: one buffer, in which each placed tensor gets an address of its own choosing. */
import {
  type Buffer,
  type BufferType,
  type Context,
  GGML_TYPE,
  type GgmlBase,
  STATUS_SUCCESS,
  type TensorPointer,
} from '../native/ggml.ts';
import { adviseHugePages } from '../native/huge-pages.ts';
import { MOST_VIEWED_BYTES, viewOf } from '../native/kernels.ts';
import { internalError, MemoryError } from '../util/errors.ts';
import { ARENA_ALIGNMENT, type Arena, type ArenaRules, type HostArena, type Tensor } from './device.ts';
import { blockElements, byteLengthOf, type DType, QUANT_BLOCKS, type QuantType } from './dtype.ts';
import { GgmlTensor, type MemoryMeter, newTensor, pointerOf, type TensorOwner, type TensorRequest } from './ggml-memory.ts';
import { checkByteRange, checkPlace } from './tracked-tensor.ts';

/** Bytes of host arenas that are page-locked: Vulkan drivers have limits from 1 GiB on, and one page is left for the alignment. */
export const MOST_LOCKED_BYTES = 2 ** 30 - ARENA_ALIGNMENT;

interface Placed {
  /** Describes the tensor. */
  readonly context: Context;
  /** Of its first byte. */
  readonly address: bigint;
}

export interface GgmlArenaRequest {
  readonly name: string;
  readonly byteLength: number;
  readonly type: BufferType;
  /** It is the process's own memory, not locked by a driver. */
  readonly isPlain: boolean;
}

class PlacedTensor extends GgmlTensor {
  readonly arena: GgmlArena;

  constructor(request: TensorRequest, pointer: TensorPointer, arena: GgmlArena) {
    super(request, pointer, arena.owner);
    this.arena = arena;
  }
}

export class GgmlArena implements Arena {
  /** Of placed tensors, which are freed with the arena. */
  readonly owner: TensorOwner;
  readonly byteLength: number;
  readonly #ggml: GgmlBase;
  readonly #meter: MemoryMeter;
  readonly #type: BufferType;
  readonly #bufferBytes: number;
  /** Of the first tensor: the first page of the buffer. */
  readonly #base: bigint;
  readonly #placed = new Map<Tensor, Placed>();
  #buffer: Buffer | undefined;

  /** @throws {MemoryError} naming the bytes asked for and those in use */
  constructor(ggml: GgmlBase, meter: MemoryMeter, { name, byteLength, type, isPlain }: GgmlArenaRequest) {
    const alignment = ggml.bufferTypeAlignment(type);
    if (ARENA_ALIGNMENT % alignment !== 0) throw internalError(`arena ${name}: ggml wants tensors at multiples of ${alignment} bytes`);
    const buffer = ggml.allocBuffer(type, byteLength + ARENA_ALIGNMENT);
    if (!buffer) {
      const { usedBytes } = meter;
      throw new MemoryError(`out of memory: ${byteLength} bytes for ${name} could not be allocated, ${usedBytes} are in use`, {
        bytes: byteLength,
        usedBytes,
      });
    }
    this.#ggml = ggml;
    this.#meter = meter;
    this.#type = type;
    this.byteLength = byteLength;
    this.#buffer = buffer;
    const page = BigInt(ARENA_ALIGNMENT);
    this.#base = ((BigInt(ggml.bufferBase(buffer)) + page - 1n) / page) * page;
    this.#bufferBytes = ggml.bufferSize(buffer);
    meter.add(this.#bufferBytes);
    if (isPlain) adviseHugePages(this.#base, byteLength);
    const isFreed = (): boolean => this.#buffer === undefined;
    this.owner = {
      get disposed() {
        return isFreed();
      },
      [Symbol.dispose]: () => {},
    };
  }

  place(name: string, dtype: DType, shape: readonly number[], offset: number): Tensor {
    const buffer = this.#buffer;
    if (!buffer) throw internalError(`tensor ${name} is placed in an arena that was freed`);
    const context = this.#ggml.init({ mem_size: 2 * this.#ggml.tensorOverhead(), mem_buffer: null, no_alloc: true });
    try {
      const pointer = newTensor(this.#ggml, context, { name, dtype, shape });
      const tensor = new PlacedTensor({ name, dtype, shape }, pointer, this);
      checkPlace(this, { name, byteLength: this.#ggml.allocSize(this.#type, pointer) }, offset);
      const address = this.#base + BigInt(offset);
      const status = this.#ggml.tensorAlloc(buffer, pointer, address);
      if (status !== STATUS_SUCCESS) throw internalError(`tensor ${name} is not placed: ${this.#ggml.statusText(status)}`);
      this.#placed.set(tensor, { context, address });
      return tensor;
    } catch (cause) {
      this.#ggml.free(context);
      throw cause;
    }
  }

  /** Backends zero what kernels read behind the end of a tensor, where others may have been since. */
  renew(tensor: Tensor): void {
    this.#ggml.initTensor(this.#buffer!, pointerOf(tensor));
  }

  /** Address of a tensor's first byte, which the processor reaches in memory of the process only. */
  protected addressOf(tensor: Tensor): bigint {
    const placed = this.#placed.get(tensor);
    if (!placed) throw internalError(`tensor ${tensor.name} is not in this arena, or it was freed`);
    return placed.address;
  }

  [Symbol.dispose](): void {
    if (!this.#buffer) return;
    this.#ggml.bufferFree(this.#buffer);
    this.#buffer = undefined;
    for (const { context } of this.#placed.values()) this.#ggml.free(context);
    this.#placed.clear();
    this.#meter.add(-this.#bufferBytes);
  }
}

/** In memory that the processor reaches. */
export class GgmlHostArena extends GgmlArena implements HostArena {
  /** Made once: the collector counts the bytes of every view as garbage to come, and runs the more often. */
  readonly #views = new Map<Tensor, Uint8Array>();

  view(tensor: Tensor, offset: number, byteLength: number): Uint8Array {
    checkByteRange(tensor, offset, byteLength);
    const address = this.addressOf(tensor);
    if (tensor.byteLength > MOST_VIEWED_BYTES) return viewOf(address + BigInt(offset), byteLength);
    const whole = this.#views.get(tensor) ?? viewOf(address, tensor.byteLength);
    this.#views.set(tensor, whole);
    return whole.subarray(offset, offset + byteLength);
  }

  override [Symbol.dispose](): void {
    this.#views.clear();
    super[Symbol.dispose]();
  }
}

/** Bytes of a tensor that lies in a host arena; undefined for others. */
export function hostViewOf(tensor: Tensor, offset: number, byteLength: number): Uint8Array | undefined {
  return tensor instanceof PlacedTensor && tensor.arena instanceof GgmlHostArena
    ? tensor.arena.view(tensor, offset, byteLength)
    : undefined;
}

export const isPlaced = (tensor: Tensor): boolean => tensor instanceof PlacedTensor;

/** `Device.renew` */
export function renewPlaced(tensor: Tensor): void {
  if (!(tensor instanceof PlacedTensor)) throw internalError(`tensor ${tensor.name} is not placed in an arena`);
  tensor.arena.renew(tensor);
}

/** Asks a type of memory what it wants. CUDA pads rows of blocks to 512 elements. */
export function arenaRules(ggml: GgmlBase, type: BufferType): ArenaRules {
  const context = ggml.init({
    mem_size: ggml.tensorOverhead() * (Object.keys(QUANT_BLOCKS).length + 1),
    mem_buffer: null,
    no_alloc: true,
  });
  try {
    // The padding is longest for the shortest row.
    const paddings = (Object.keys(QUANT_BLOCKS) as QuantType[]).map((quant) => {
      const tensor = ggml.newTensor2d(context, GGML_TYPE[quant], blockElements(quant), 1);
      return ggml.allocSize(type, tensor) - byteLengthOf(quant, blockElements(quant));
    });
    // One page of each buffer is left for the alignment.
    const mostBytes = Number(ggml.maxBufferSize(type)) - ARENA_ALIGNMENT;
    return { mostBytes, mostHostBytes: MOST_LOCKED_BYTES, paddingBytes: Math.max(0, ...paddings) };
  } finally {
    ggml.free(context);
  }
}
