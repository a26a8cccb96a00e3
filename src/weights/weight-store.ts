import type { Model } from '../models/model.ts';
import type { Device, Tensor, Tier, Weight } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import { type PassingRows, placementRules, placeWeights, type WeightPlacement, type WeightRows } from './placement.ts';
import { ReadTurns } from './read-turns.ts';
import { assignSlots } from './stream-slots.ts';
import { WeightMemory } from './weight-memory.ts';
import { type Compute, planWeights, type WeightPlan } from './weight-plan.ts';
import type { WeightSource } from './weight-source.ts';
import { type Passage, partsOf, readOrder, WeightStream } from './weight-stream.ts';
import { type Destination, type Upload, WeightUploader } from './weight-uploader.ts';

export interface WeightStoreOptions {
  readonly compute: Compute;
  /** Stops the loading; `acquire` and `loaded` then reject with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Hears of every read. */
  readonly lanes?: LaneLog | undefined;
  /** Whether weights are read while others compute. Default true; without, results are the same. */
  readonly overlap?: boolean | undefined;
}

/** What stays where, and in how many slots the rest passes through the device's memory. */
export interface WeightHomes {
  readonly placement: WeightPlacement;
  readonly slots: number;
}

/**
 * The weights of a model on a device. Loading is a sweep in execution order: layer 0 can compute while layer 1 is read. What does not stay is read again for
 * every sweep, or copied from RAM beside the device, ahead of the layer that computes. Disposing frees every tensor, also in the middle of loading; dispose programs that read them before.
 */
export class WeightStore implements AsyncDisposable {
  readonly plan: WeightPlan;
  /** Changes when a weight moved to another tensor and programs must be compiled again. Every weight has one address in all sweeps. */
  readonly binding = 0;
  readonly #device: Device;
  readonly #signal: AbortSignal | undefined;
  readonly #lanes: LaneLog | undefined;
  readonly #overlap: boolean | undefined;
  readonly #stop = new AbortController();
  readonly #turns = new ReadTurns();
  readonly #memory: WeightMemory;
  readonly #uploaded = new Set<Tensor>();
  readonly #packed = new Set<Tensor>();
  /** For each layer, once what stays of it can be used. */
  #ready: readonly Promise<ReadonlyMap<string, Weight>>[] | undefined;
  #uploader: WeightUploader | undefined;
  #stream: WeightStream | undefined;
  readonly #holders: number[];
  #loadSeconds = 0;
  #disposal: Promise<void> | undefined;

  /**
   * Finds and checks the weights of all layers, and reads none yet.
   * @throws {FormatError} when one is missing or has another shape
   */
  constructor(device: Device, model: Pick<Model, 'layers'>, source: WeightSource, options: WeightStoreOptions) {
    this.#device = device;
    this.#memory = new WeightMemory(device);
    this.#signal = options.signal;
    this.#lanes = options.lanes;
    this.#overlap = options.overlap;
    this.plan = planWeights(model, source, device.capabilities, options.compute);
    this.#holders = model.layers.map(() => 0);
  }

  /** Bytes of all weights on the device, wherever they rest. */
  get bytes(): number {
    return this.plan.bytes;
  }

  /** Seconds that loading what stays took; 0 until it is complete. */
  get loadSeconds(): number {
    return this.#loadSeconds;
  }

  /**
   * Allocates all tensors and begins to load them in the background. Without `homes`, all weights stay in memory.
   * @throws {MemoryError} when the device has no room; dispose frees what was allocated
   */
  start(homes?: WeightHomes): void {
    const { placement, slots } = homes ?? { placement: placeWeights(this.plan, 1, placementRules(this.#device)), slots: 0 };
    if (this.#ready || this.#disposal) throw internalError('weights: start called twice or after dispose');
    this.#ready = [];
    this.#uploader = new WeightUploader(this.#device, this.plan.weights, this.#lanes);
    this.#memory.allocateStaying(placement);
    this.#stream = this.#openStream(placement, slots);
    this.#ready = this.#loadLayers(placement);
    // Whoever acquires a layer gets the error; if nobody does, it is not an unhandled one.
    for (const promise of this.#ready) promise.catch(() => {});
    this.#stream.start();
  }

  /**
   * The layer's weights by name, as soon as they are on the device. Every `acquire` is followed by one `release`.
   * @throws {FormatError} naming file and tensor when loading failed, in this layer or an earlier one
   */
  async acquire(layer: number): Promise<ReadonlyMap<string, Weight>> {
    const resident = this.#layer(layer);
    if (this.#disposal) throw internalError('weights: acquire after dispose');
    const [weights] = await Promise.all([resident, this.#holders[layer] === 0 ? this.#stream!.acquire(layer) : undefined]);
    this.#holders[layer]!++;
    return weights;
  }

  /** Says that no running program reads the layer's weights for now: the memory of those that do not stay is used for others. */
  release(layer: number): void {
    if (!this.#holders[layer]) throw internalError(`weights: layer ${layer} is released but was not acquired`);
    this.#holders[layer]--;
    if (this.#holders[layer] === 0) this.#stream!.release(layer);
  }

  /** Resolves when what stays of the last layer is on the device; rejects like `acquire`. */
  async loaded(): Promise<void> {
    if (!this.#ready) throw internalError('weights: loaded before start');
    await Promise.all(this.#ready);
  }

  [Symbol.asyncDispose](): Promise<void> {
    this.#disposal ??= this.#free();
    return this.#disposal;
  }

  #layer(layer: number): Promise<ReadonlyMap<string, Weight>> {
    if (!this.#ready) throw internalError('weights: acquire before start');
    const ready = this.#ready[layer];
    if (!ready) throw internalError(`weights: there is no layer ${layer}`);
    return ready;
  }

  #openStream({ layers, slotBytes }: WeightPlacement, slotCount: number): WeightStream {
    const streaming = layers.flatMap(({ streamed }, layer) => (streamed.length > 0 ? [{ layer, streamed }] : []));
    const slots = assignSlots(streaming.length, slotCount);
    this.#memory.allocatePassing(streaming, slots, slotBytes);
    return new WeightStream({
      device: this.#device,
      uploader: this.#uploader!,
      turns: this.#turns,
      layers: streaming.map(({ layer, streamed }) => ({ layer, passages: streamed.map((rows) => this.#passage(rows, layer)) })),
      slots,
      loaded: (layer) => this.#layer(layer),
      checkpoint: () => this.#stop.signal.throwIfAborted(), // the other signal is about loading
      lanes: this.#lanes,
      overlap: this.#overlap,
    });
  }

  #destination(rows: WeightRows, layer: number): Destination {
    return { rows, tensor: this.#memory.tensor(rows, layer), host: this.#memory.host(rows) };
  }

  #passage(rows: PassingRows, layer: number): Passage {
    return { rows, tensor: this.#memory.tensor(rows, layer), held: rows.held && this.#memory.tensor(rows.held, layer) };
  }

  /** After a failure all later layers fail with the same error. */
  #loadLayers({ layers }: WeightPlacement): Promise<ReadonlyMap<string, Weight>>[] {
    const began = performance.now();
    let ready: Promise<unknown> = Promise.resolve();
    return layers.map(({ resident, streamed }, layer) => {
      const staying = [...resident, ...streamed.flatMap((rows) => rows.held ?? [])];
      const read = this.#turns.take(readOrder(layer, 'stays'), () =>
        this.#readLayer(staying.map((rows) => this.#destination(rows, layer))),
      );
      const loaded = Promise.all([read, ready]).then(async () => {
        this.#checkStopped();
        await this.#packLayer(resident, layer);
        if (layer === layers.length - 1) this.#loadSeconds = (performance.now() - began) / 1000;
        return this.#handles(resident, streamed, layer);
      });
      ready = loaded;
      return loaded;
    });
  }

  async #readLayer(staying: readonly Destination[]): Promise<Upload[]> {
    const written: Upload[] = [];
    for (const destination of staying) {
      if (this.#uploaded.has(destination.tensor)) continue;
      written.push(await this.#uploader!.upload(destination, () => this.#checkStopped()));
      this.#uploaded.add(destination.tensor);
    }
    return written;
  }

  async #packLayer(resident: readonly WeightRows[], layer: number): Promise<void> {
    for (const rows of resident) {
      const tensor = this.#memory.tensor(rows, layer);
      if (this.#packed.has(tensor) || rows.weight.spec.role === 'vector') continue;
      this.#packed.add(tensor);
      await this.#device.pack?.(tensor, partsOf(rows));
    }
  }

  /** A weight's rows follow each other, resident ones first. */
  #handles(resident: readonly WeightRows[], streamed: readonly PassingRows[], layer: number): ReadonlyMap<string, Weight> {
    const weights = new Map<string, Weight>();
    const add = (rows: WeightRows, home: Tier): void => {
      const { name, shape } = rows.weight.spec;
      const segment = { from: rows.from, to: rows.to, layout: 'gguf', home, tensor: this.#memory.tensor(rows, layer) } as const;
      weights.set(name, { name, shape, segments: [...(weights.get(name)?.segments ?? []), segment] });
    };
    for (const rows of resident) add(rows, this.#device.tier);
    for (const rows of streamed) add(rows, rows.held ? 'cpu' : 'disk');
    return weights;
  }

  #checkStopped(): void {
    this.#stop.signal.throwIfAborted();
    this.#signal?.throwIfAborted();
  }

  async #free(): Promise<void> {
    this.#stop.abort(internalError('weights: freed while they were loaded'));
    await Promise.allSettled(this.#ready ?? []);
    await this.#stream?.stop();
    await this.#uploader?.idle();
    this.#memory[Symbol.dispose]();
  }
}
