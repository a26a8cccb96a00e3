/** Weights that are brought anew for every sweep, into a ring of slots, as far ahead as there are free ones. */
import type { Device, Tensor } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import type { ReadTurns } from './read-turns.ts';
import type { Destination, Upload, WeightUploader } from './weight-uploader.ts';

/** Rows that pass through a slot. */
export interface Passage extends Destination {
  /** The same rows in RAM; without, they are read from their source. */
  readonly held?: Tensor | undefined;
}

export interface StreamedLayer {
  readonly layer: number;
  /** Placed in the slot that `slots` says. */
  readonly passages: readonly Passage[];
}

export interface StreamParts {
  readonly device: Device;
  readonly uploader: WeightUploader;
  /** Shared with what stays in memory: a layer is read whole, what stays of it first, before the next one. */
  readonly turns: ReadTurns;
  /** Of the layers that have something to read, in execution order. */
  readonly layers: readonly StreamedLayer[];
  /** Slot of each of them. */
  readonly slots: readonly number[];
  /** Resolves when all that stays of a layer has been read, also what is held in RAM. */
  readonly loaded: (layer: number) => Promise<unknown>;
  /** Called before every piece; throws to stop. */
  readonly checkpoint: () => void;
  readonly lanes?: LaneLog | undefined;
  /** Whether layers are read before they are asked for. Default true; without, results are the same. */
  readonly overlap?: boolean | undefined;
}

/** One reading of a layer. */
interface Load {
  /** Among the streamed layers. */
  readonly index: number;
  /** Resolves when kernels can read the weights. */
  readonly ready: Promise<void>;
  held: boolean;
}

export class WeightStream {
  readonly #parts: StreamParts;
  /** What is in each slot, or on its way there. */
  readonly #slots = new Map<number, Load>();
  /** The layer to be read next. */
  #next = 0;
  /** Whether all layers have been read once, or are about to be. */
  #once = false;
  #stopped = false;

  constructor(parts: StreamParts) {
    this.#parts = parts;
  }

  /** Begins to read the first layers. */
  start(): void {
    if (this.#readsAhead) this.#fill();
  }

  /** Resolves when the layer's weights can be used, at once for a layer without any here. @throws what reading them threw, in this layer or an earlier one */
  async acquire(layer: number): Promise<void> {
    const index = this.#indexOf(layer);
    if (index < 0) return;
    if (this.#loadOf(index) === undefined) await this.#goTo(index);
    const load = this.#loadOf(index);
    if (!load) throw internalError(`weights: slot ${this.#parts.slots[index]} is held, layer ${layer} cannot be read`);
    await load.ready;
    load.held = true;
  }

  /** Gives the layer's slot to the next one that is to be read. */
  release(layer: number): void {
    const index = this.#indexOf(layer);
    if (index < 0) return;
    this.#slots.delete(this.#parts.slots[index]!);
    if (this.#readsAhead) this.#fill();
  }

  /** Begins no further reads, and resolves when those under way have ended. */
  async stop(): Promise<void> {
    this.#stopped = true;
    await this.#settled();
  }

  get #readsAhead(): boolean {
    return this.#parts.overlap ?? true;
  }

  #indexOf(layer: number): number {
    return this.#parts.layers.findIndex((each) => each.layer === layer);
  }

  #loadOf(index: number): Load | undefined {
    const load = this.#slots.get(this.#parts.slots[index]!);
    return load?.index === index ? load : undefined;
  }

  /** A sweep that ended early, or a repeated one, begins at another layer than the one that would be next. */
  async #goTo(index: number): Promise<void> {
    await this.#settled();
    for (const [slot, { held }] of this.#slots) if (!held) this.#slots.delete(slot);
    this.#next = index;
    this.#fill(this.#readsAhead ? Infinity : 1);
  }

  async #settled(): Promise<void> {
    await Promise.allSettled([...this.#slots.values()].map(({ ready }) => ready));
  }

  /** Begins to read into free slots, `most` layers at most. */
  #fill(most = Infinity): void {
    const { layers, slots } = this.#parts;
    for (let begun = 0; begun < most && !this.#stopped && layers.length > 0 && !this.#slots.has(slots[this.#next]!); begun++) {
      const index = this.#next;
      const ready = this.#load(layers[index]!);
      ready.catch(() => {}); // whoever acquires the layer gets the error
      this.#slots.set(slots[index]!, { index, ready, held: false });
      this.#next = (index + 1) % layers.length;
      this.#once ||= this.#next === 0;
    }
  }

  async #load({ layer, passages }: StreamedLayer): Promise<void> {
    const { device, turns, loaded, lanes } = this.#parts;
    if (passages.some(({ held }) => held)) await loaded(layer); // no turn may wait for another one
    await turns.take(this.#once ? Infinity : readOrder(layer, 'passes'), async () => {
      const uploads = [];
      for (const passage of passages) uploads.push(await this.#bring(passage));
      return uploads;
    });
    for (const { rows, tensor } of passages) {
      const end = lanes?.start('compute', `order ${tensor.name}`);
      await device.pack?.(tensor, partsOf(rows));
      end?.();
    }
  }

  /** Resolves when all of it is on its way. */
  async #bring(passage: Passage): Promise<Upload> {
    const { device, uploader, checkpoint, lanes } = this.#parts;
    const { held, tensor } = passage;
    device.renew?.(tensor);
    if (!held) return uploader.upload(passage, checkpoint);
    checkpoint();
    const end = lanes?.start('upload', tensor.name, tensor.byteLength);
    const done = device.copy(held, 0, tensor, 0, tensor.byteLength).finally(end);
    done.catch(() => {}); // it is awaited later; until then a failure must not count as unhandled
    return { done };
  }
}

/** Order of reads in the first sweep; later ones read only what passes. */
export const readOrder = (layer: number, what: 'stays' | 'passes'): number => 2 * layer + (what === 'stays' ? 0 : 1);

/** Groups of rows that are also used alone, such as experts. */
export function partsOf({ weight, from, to }: Destination['rows']): number {
  const { shape, stack } = weight.spec;
  return stack ? ((to - from) / shape[0]!) * stack.count : 1;
}
