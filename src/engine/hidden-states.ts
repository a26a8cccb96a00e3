/** What micro-batches hand from layer to layer. Some rest on disk between two layers: they take turns in a few slots. */
import type { SpillFile } from '../native/spill-file.ts';
import { ARENA_ALIGNMENT, type Device, type Tensor } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';

/** One computes, one is written, one is read. */
const SLOTS = 3;

export interface HiddenSizes {
  /** Micro-batches, each chunk of a sweep counted. */
  readonly count: number;
  /** Of those, the last ones, that rest on disk. */
  readonly onDisk: number;
  /** Most tokens of one. */
  readonly tokens: number;
  readonly hiddenSize: number;
}

/** Tensors that so many micro-batches take. */
export const hiddenTensors = ({ count, onDisk }: Pick<HiddenSizes, 'count' | 'onDisk'>): number => count - onDisk + Math.min(SLOTS, onDisk);

const roomBytes = ({ tokens, hiddenSize }: HiddenSizes): number => Math.ceil((4 * tokens * hiddenSize) / ARENA_ALIGNMENT) * ARENA_ALIGNMENT;

/** Of the file for those on disk; 0 where each of them has a slot of its own. */
export const hiddenFileBytes = (sizes: HiddenSizes): number => (sizes.onDisk > SLOTS ? sizes.onDisk * roomBytes(sizes) : 0);

export interface HiddenParts {
  readonly device: Device;
  readonly sizes: HiddenSizes;
  /** Where there are more on disk than slots. */
  readonly file?: SpillFile | undefined;
  readonly lanes?: LaneLog | undefined;
}

export class HiddenStates implements AsyncDisposable {
  readonly #parts: HiddenParts;
  readonly #tensors: readonly Tensor[];
  /** Of each slot: what is on its way out of it or into it. */
  readonly #busy: Promise<unknown>[];
  /** Bytes of the micro-batches on disk that have been written in this sweep. */
  readonly #stored = new Map<number, number>();
  /** Of this sweep. */
  #count = 0;

  /** @throws {MemoryError} */
  constructor(parts: HiddenParts) {
    this.#parts = parts;
    const { device, sizes } = parts;
    const { tokens, hiddenSize, onDisk } = sizes;
    if (hiddenFileBytes(sizes) > 0 && !parts.file) throw internalError(`${onDisk} hidden states on disk without a file`);
    this.#busy = Array.from({ length: Math.min(SLOTS, onDisk) }, () => Promise.resolve());
    const tensors: Tensor[] = [];
    try {
      for (let i = 0; i < hiddenTensors(sizes); i++) tensors.push(device.allocate(`hidden ${i}`, 'f32', [tokens, hiddenSize]));
    } catch (cause) {
      for (const tensor of tensors) tensor[Symbol.dispose]();
      throw cause;
    }
    this.#tensors = tensors;
  }

  /** [tokens, hiddenSize], the same one in all sweeps. It is the micro-batch's between `acquire` and `release`. */
  tensor(microBatch: number): Tensor {
    const slot = this.#slotOf(microBatch);
    return this.#tensors[slot === undefined ? microBatch : this.#inMemory + slot]!;
  }

  /** A sweep of `count` micro-batches begins. What an earlier one that failed left under way has ended. */
  async begin(count: number): Promise<void> {
    await Promise.allSettled(this.#busy);
    for (const slot of this.#busy.keys()) this.#busy[slot] = Promise.resolve();
    this.#stored.clear();
    this.#count = count;
  }

  /** Resolves when the tensor holds what the last layer left. @throws what writing or reading threw */
  async acquire(microBatch: number): Promise<void> {
    const slot = this.#slotOf(microBatch);
    if (slot !== undefined) await this.#busy[slot];
  }

  /** The layer is done with the micro-batch of so many tokens; `isLast`: no other layer follows. */
  release(microBatch: number, tokens: number, isLast: boolean): void {
    const slot = this.#slotOf(microBatch);
    const next = slot === undefined ? microBatch : this.#next(microBatch);
    if (slot === undefined || next === microBatch) return;
    if (isLast) this.#stored.delete(microBatch);
    const change = this.#change(microBatch, next, isLast ? 0 : 4 * tokens * this.#parts.sizes.hiddenSize);
    change.catch(() => {}); // whoever acquires the slot gets the error
    this.#busy[slot] = change;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.allSettled(this.#busy);
    for (const tensor of this.#tensors) tensor[Symbol.dispose]();
  }

  get #inMemory(): number {
    return this.#parts.sizes.count - this.#parts.sizes.onDisk;
  }

  #slotOf(microBatch: number): number | undefined {
    return microBatch < this.#inMemory ? undefined : (microBatch - this.#inMemory) % SLOTS;
  }

  /** The micro-batch that has the slot after this one. */
  #next(microBatch: number): number {
    return microBatch + SLOTS < this.#count ? microBatch + SLOTS : this.#inMemory + ((microBatch - this.#inMemory) % SLOTS);
  }

  async #change(from: number, to: number, bytes: number): Promise<void> {
    if (bytes > 0) {
      await this.#move('write', from, bytes);
      this.#stored.set(from, bytes);
    }
    const stored = this.#stored.get(to);
    if (stored !== undefined) await this.#move('read', to, stored);
  }

  async #move(way: 'read' | 'write', microBatch: number, byteLength: number): Promise<void> {
    const { device, sizes, file, lanes } = this.#parts;
    const start = (microBatch - this.#inMemory) * roomBytes(sizes);
    const tensor = this.tensor(microBatch);
    const end = lanes?.start(`disk ${way}`, `hidden states, batch ${microBatch}`, byteLength);
    try {
      if (device.view) return await file![way](start, device.view(tensor, 0, byteLength));
      const bytes = new Uint8Array(byteLength);
      if (way === 'write') await device.read(tensor, 0, bytes);
      await file![way](start, bytes);
      if (way === 'read') await device.write(tensor, 0, bytes);
    } finally {
      end?.();
    }
  }
}
