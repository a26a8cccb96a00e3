/** Pages of the cache that rest on disk pass through slots in memory: while one micro-batch attends, those of the next are read. */
import { type Device, type KvPages, PAGE_POSITIONS, type Tensor } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import type { KvSpill } from './kv-spill.ts';
import { diskPageBytes } from './kv-spill.ts';
import type { KvShape } from './layer-groups.ts';

/** One micro-batch attends, the next one is read. Whenever a slot is free, its reading is wanted at once, so the disk never stands still for long. */
export const STAGING_SLOTS = 2;

export interface StagingParts {
  readonly device: Device;
  readonly shape: Pick<KvShape, 'type' | 'columns'>;
  readonly spill: KvSpill;
  /** That a slot holds. */
  readonly pages: number;
  readonly lanes?: LaneLog | undefined;
  /** Whether pages are read before their turn. Default true; without, results are the same. */
  readonly overlap?: boolean | undefined;
}

/** What a layer reads for a micro-batch. */
export interface StagedStep {
  /** Among the attending layers. */
  readonly layer: number;
  readonly microBatch: number;
  /** On disk, in the order in which they are staged. */
  readonly pages: readonly number[];
}

export interface StagedPages extends KvPages {
  readonly slot: number;
}

/** Bytes of memory that slots of so many pages take. */
export const stagingSlotBytes = (shape: Pick<KvShape, 'type' | 'columns'>, pages: number): number =>
  STAGING_SLOTS * 2 * pages * diskPageBytes(shape);

export class KvStaging implements Disposable {
  readonly #parts: StagingParts;
  readonly #slots: readonly StagedPages[];

  /** @throws {MemoryError} */
  constructor(parts: StagingParts) {
    this.#parts = parts;
    const owned: Tensor[] = [];
    const allocate = (name: string): Tensor => {
      const tensor = parts.device.allocate(name, parts.shape.type, [parts.pages * PAGE_POSITIONS, parts.shape.columns]);
      owned.push(tensor);
      return tensor;
    };
    try {
      this.#slots = Array.from({ length: STAGING_SLOTS }, (_, slot) => ({
        slot,
        keys: allocate(`staged keys ${slot}`),
        values: allocate(`staged values ${slot}`),
      }));
    } catch (cause) {
      for (const tensor of owned) tensor[Symbol.dispose]();
      throw cause;
    }
  }

  /** Begins to read for the first of the steps, which will be asked for in this order. The readings of the last sweep must have been closed. */
  open(steps: readonly StagedStep[]): StagedSweep {
    for (const { pages } of steps)
      if (pages.length > this.#parts.pages) throw internalError(`${pages.length} pages are to be staged, a slot has ${this.#parts.pages}`);
    return new StagedSweep(this.#parts, this.#slots, steps);
  }

  [Symbol.dispose](): void {
    for (const { keys, values } of this.#slots) {
      keys[Symbol.dispose]();
      values[Symbol.dispose]();
    }
  }
}

/** The readings of one sweep. */
export class StagedSweep implements AsyncDisposable {
  readonly #parts: StagingParts;
  readonly #slots: readonly StagedPages[];
  readonly #steps: readonly StagedStep[];
  /** Of the steps so far that are not done. */
  readonly #loads = new Map<number, Promise<unknown>>();
  /** The step that is read next, and the one that is asked for next. */
  #next = 0;
  #turn = 0;

  constructor(parts: StagingParts, slots: readonly StagedPages[], steps: readonly StagedStep[]) {
    this.#parts = parts;
    this.#slots = slots;
    this.#steps = steps;
    if (parts.overlap ?? true) this.#fill();
  }

  /** Resolves when what the layer reads for the micro-batch is there; undefined if it reads nothing. @throws what reading it threw */
  async acquire(layer: number, microBatch: number): Promise<StagedPages | undefined> {
    if (!this.#isTurn(layer, microBatch)) return undefined;
    if (!this.#loads.has(this.#turn)) this.#load();
    await this.#loads.get(this.#turn);
    return this.#slots[this.#turn % this.#slots.length];
  }

  /** Gives the slot to a later step. */
  release(layer: number, microBatch: number): void {
    if (!this.#isTurn(layer, microBatch)) return;
    this.#loads.delete(this.#turn++);
    if (this.#parts.overlap ?? true) this.#fill();
  }

  /** Waits for what is being read. */
  async [Symbol.asyncDispose](): Promise<void> {
    this.#next = this.#steps.length;
    await Promise.allSettled(this.#loads.values());
  }

  #isTurn(layer: number, microBatch: number): boolean {
    const step = this.#steps[this.#turn];
    return step !== undefined && step.layer === layer && step.microBatch === microBatch;
  }

  #fill(): void {
    while (this.#next < this.#steps.length && this.#next < this.#turn + this.#slots.length) this.#load();
  }

  #load(): void {
    const { spill, lanes } = this.#parts;
    const index = this.#next++;
    const { layer, microBatch, pages } = this.#steps[index]!;
    const end = lanes?.start('disk read', `cache of layer ${layer}, batch ${microBatch}`, pages.length * this.#stepPageBytes);
    const load = spill.load(layer, pages, this.#slots[index % this.#slots.length]!).finally(() => end?.());
    load.catch(() => {}); // whoever acquires it gets the error
    this.#loads.set(index, load);
  }

  get #stepPageBytes(): number {
    return 2 * diskPageBytes(this.#parts.shape);
  }
}
