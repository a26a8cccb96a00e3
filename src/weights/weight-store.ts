import type { Model } from '../models/model.ts';
import type { Device, Tensor, Weight } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import { type Compute, type PlannedWeight, planWeights, type WeightPlan } from './weight-plan.ts';
import type { WeightSource } from './weight-source.ts';
import { type Upload, WeightUploader } from './weight-uploader.ts';

export interface WeightStoreOptions {
  readonly compute: Compute;
  /** Stops the loading; `acquire` and `loaded` then reject with its reason. */
  readonly signal?: AbortSignal | undefined;
}

/**
 * The weights of a model on a device. Loading is a sweep in execution order: layer 0 can compute while layer 1 is read.
 * Disposing frees every tensor, also in the middle of loading; dispose programs that read them before.
 */
export class WeightStore implements AsyncDisposable {
  /** Bytes of all weights on the device, known before loading. */
  readonly bytes: number;
  /** Changes when a weight moved to another tensor and programs must be compiled again. Resident weights never move. */
  readonly binding = 0;
  readonly #device: Device;
  readonly #plan: WeightPlan;
  readonly #signal: AbortSignal | undefined;
  readonly #stop = new AbortController();
  readonly #tensors = new Map<PlannedWeight, Tensor>();
  readonly #uploaded = new Set<PlannedWeight>();
  readonly #packed = new Set<PlannedWeight>();
  /** For each layer, once it can be used. */
  #ready: readonly Promise<ReadonlyMap<string, Weight>>[] | undefined;
  readonly #holders: number[];
  #loadSeconds = 0;
  /** Resolves when nothing is written to the tensors any more. */
  #idle = async (): Promise<void> => {};
  #disposal: Promise<void> | undefined;

  /**
   * Finds and checks the weights of all layers, and reads none yet.
   * @throws {FormatError} when one is missing or has another shape
   */
  constructor(device: Device, model: Pick<Model, 'layers'>, source: WeightSource, options: WeightStoreOptions) {
    this.#device = device;
    this.#signal = options.signal;
    this.#plan = planWeights(model, source, device.capabilities, options.compute);
    this.#holders = model.layers.map(() => 0);
    this.bytes = this.#plan.bytes;
  }

  /** Seconds that loading took; 0 until it is complete. */
  get loadSeconds(): number {
    return this.#loadSeconds;
  }

  /**
   * Allocates all tensors and begins to load them in the background.
   * @throws {MemoryError} when the device has no room; dispose frees what was allocated
   */
  start(): void {
    if (this.#ready || this.#disposal) throw internalError('weights: start called twice or after dispose');
    this.#ready = [];
    for (const weight of this.#plan.weights) {
      this.#tensors.set(weight, this.#device.allocate(weight.spec.name, weight.deviceType, weight.spec.shape));
    }
    this.#ready = this.#loadLayers();
    // Whoever acquires a layer gets the error; if nobody does, it is not an unhandled one.
    for (const promise of this.#ready) promise.catch(() => {});
  }

  /**
   * The layer's weights by name, as soon as they are on the device. Every `acquire` is followed by one `release`.
   * @throws {FormatError} naming file and tensor when loading failed, in this layer or an earlier one
   */
  async acquire(layer: number): Promise<ReadonlyMap<string, Weight>> {
    const weights = await this.#layer(layer);
    if (this.#disposal) throw internalError('weights: acquire after dispose');
    this.#holders[layer]!++;
    return weights;
  }

  /** Says that no running program reads the layer's weights for now. Resident weights stay. */
  release(layer: number): void {
    if (!this.#holders[layer]) throw internalError(`weights: layer ${layer} is released but was not acquired`);
    this.#holders[layer]--;
  }

  /** Resolves when the last layer is on the device; rejects like `acquire`. */
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

  /** Layers are read in turn, the next one while the last pieces of one are written; after a failure all later ones fail with the same error. */
  #loadLayers(): Promise<ReadonlyMap<string, Weight>>[] {
    const began = performance.now();
    const uploader = new WeightUploader(this.#device, this.#plan.weights);
    this.#idle = () => uploader.idle();
    let reading: Promise<unknown> = Promise.resolve();
    let ready: Promise<unknown> = Promise.resolve();
    return this.#plan.layers.map((weights, layer) => {
      const read = reading.then(() => this.#readLayer(uploader, weights));
      reading = read;
      const loaded = Promise.all([read.then((written) => Promise.all(written.map(({ done }) => done))), ready]).then(async () => {
        this.#checkStopped();
        await this.#packLayer(weights);
        if (layer === this.#plan.layers.length - 1) this.#loadSeconds = (performance.now() - began) / 1000;
        return new Map(weights.map((weight) => [weight.spec.name, this.#handle(weight)]));
      });
      ready = loaded;
      return loaded;
    });
  }

  async #readLayer(uploader: WeightUploader, weights: readonly PlannedWeight[]): Promise<Upload[]> {
    const written: Upload[] = [];
    for (const weight of weights) {
      if (this.#uploaded.has(weight)) continue;
      written.push(await uploader.upload(weight, this.#tensors.get(weight)!, () => this.#checkStopped()));
      this.#uploaded.add(weight);
    }
    return written;
  }

  async #packLayer(weights: readonly PlannedWeight[]): Promise<void> {
    for (const weight of weights) {
      if (this.#packed.has(weight) || weight.spec.role === 'vector') continue;
      this.#packed.add(weight);
      await this.#device.pack?.(this.#tensors.get(weight)!, weight.spec.stack?.count ?? 1);
    }
  }

  #handle(weight: PlannedWeight): Weight {
    const { name, shape } = weight.spec;
    const tensor = this.#tensors.get(weight)!;
    return { name, shape, segments: [{ from: 0, to: shape[0] ?? 1, layout: 'gguf', home: this.#device.tier, tensor }] };
  }

  #checkStopped(): void {
    this.#stop.signal.throwIfAborted();
    this.#signal?.throwIfAborted();
  }

  async #free(): Promise<void> {
    this.#stop.abort(internalError('weights: freed while they were loaded'));
    await Promise.allSettled(this.#ready ?? []);
    await this.#idle();
    for (const tensor of this.#tensors.values()) tensor[Symbol.dispose]();
    this.#tensors.clear();
  }
}
