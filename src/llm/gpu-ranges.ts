/** Several GPUs of a machine: which of them computes which layers, and that what a plan wants of each one fits. */
import { bufferBytes } from '../engine/buffer-bytes.ts';
import { cacheBytesOfLayer } from '../engine/cache-homes.ts';
import type { ExecutionPlan, PlanOptions } from '../engine/execution-plan.ts';
import type { PlaceWeights } from '../engine/weight-homes.ts';
import { attendingLayers, type Model } from '../models/model.ts';
import type { DeviceRoom } from '../tensor/device.ts';
import { elementCount } from '../tensor/dtype.ts';
import { MemoryError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { WeightPlacement } from '../weights/placement.ts';
import { gpuLimits } from './gpu-budget.ts';

/** Halvings of the budget's range in search of a plan whose parts fit: within a thousandth. */
const TRIES = 10;

/** GPUs that have less than this share of the largest's memory are left out: they would be worth less than what each GPU wants for itself. */
const LEAST_SHARE = 1 / 8;

/** GPUs that compute layers, and which of those computes each layer. Integrated ones are left out beside others, whose memory is much faster. */
export function shareLayers(
  model: Pick<Model, 'layers'>,
  rooms: readonly DeviceRoom[],
  vramBytes?: number,
): { used: readonly number[]; ranges: readonly number[] } {
  const isMixed = rooms.some(({ isRam }) => isRam !== rooms[0]!.isRam);
  const kept = [...rooms.keys()].filter((gpu) => !(isMixed && rooms[gpu]!.isRam));
  const limits = gpuLimits(
    kept.map((gpu) => rooms[gpu]!),
    vramBytes,
  );
  const ranges = rangesOf(
    model,
    limits.map((limit) => (limit < LEAST_SHARE * Math.max(...limits) ? 0 : limit)),
  );
  const used = [...new Set(ranges)];
  return { used: used.map((range) => kept[range]!), ranges: ranges.map((range) => used.indexOf(range)) };
}

/** The GPU of each layer: consecutive layers, by their weights in proportion to what is free on each. */
export function rangesOf({ layers }: Pick<Model, 'layers'>, freeBytes: readonly number[]): number[] {
  const sizes = layers.map(({ weights }) => weights.reduce((sum, { shape }) => sum + elementCount(shape), 0));
  const total = sumOf(sizes);
  const ends = freeBytes.map((_, i) => sumOf(freeBytes.slice(0, i + 1)) / sumOf(freeBytes));
  let before = 0;
  return sizes.map((size) => {
    const middle = (before + size / 2) / total;
    before += size;
    return Math.max(
      0,
      ends.findIndex((end) => middle < end),
    );
  });
}

export interface GpuRangeParts {
  readonly model: Model;
  /** As `rangesOf` gives them. */
  readonly rangeOf: (layer: number) => number;
  /** Bytes that may be used of each GPU. */
  readonly limits: readonly number[];
}

export class GpuRanges {
  readonly #parts: GpuRangeParts;
  /** GPU of each layer. */
  readonly #ranges: readonly number[];

  constructor(parts: GpuRangeParts) {
    this.#parts = parts;
    this.#ranges = parts.model.layers.map((_, layer) => parts.rangeOf(layer));
  }

  /** What may be used of all GPUs together. */
  get budgetBytes(): number {
    return sumOf(this.#parts.limits);
  }

  /** A layer that passes through does so on its GPU, in slots of its own; what layers of several GPUs use stays on each of them. */
  place(place: PlaceWeights): PlaceWeights {
    return (share) => {
      const placement = place(share);
      const residentBytes = sumOf(this.#parts.limits.map((_, gpu) => this.#residentBytes(placement, gpu)));
      return { ...placement, residentBytes, slotBytes: placement.slotBytes * this.#parts.limits.length };
    };
  }

  /** A plan that every GPU has room for, with the largest budget that leaves it. @throws {MemoryError} */
  fit(options: PlanOptions, make: (options: PlanOptions) => ExecutionPlan): ExecutionPlan {
    const whole = make(options);
    if (this.#fits(whole, options)) return whole;
    let best: ExecutionPlan | undefined;
    let [low, high] = [0, options.budgetBytes];
    for (let i = 0; i < TRIES; i++) {
      const budgetBytes = Math.floor((low + high) / 2);
      const plan = unlessTooLarge(() => make({ ...options, budgetBytes }));
      const fits = plan && this.#fits(plan, options);
      if (fits) best = plan;
      if (!plan || fits) low = budgetBytes;
      else high = budgetBytes;
    }
    if (!best) this.check(whole, options);
    return best!;
  }

  /** @throws {MemoryError} naming the GPU that has too little */
  check(plan: ExecutionPlan, options: PlanOptions, slackBytes = 0): void {
    const { limits } = this.#parts;
    for (const [gpu, needed] of this.needs(plan, options).entries()) {
      if (needed - slackBytes <= limits[gpu]!) continue;
      const layers = this.#ranges.filter((range) => range === gpu).length;
      throw new MemoryError(
        `GPU ${gpu + 1} of ${limits.length}: its ${layers} layers need ${formatBytes(needed)}, ${formatBytes(limits[gpu]!)} may be used; a larger --vram, less on GPUs (--percent), fewer --num-gpu-batches or fewer GPUs (--gpus) may help`,
        { gpu, needed, limitBytes: limits[gpu]! },
      );
    }
  }

  #residentBytes({ layers }: WeightPlacement, gpu: number): number {
    const rows = new Set(layers.flatMap(({ resident }, layer) => (this.#ranges[layer] === gpu ? resident : [])));
    return sumOf([...rows].map(({ placedBytes }) => placedBytes));
  }

  #fits(plan: ExecutionPlan, options: PlanOptions): boolean {
    return this.needs(plan, options).every((bytes, gpu) => bytes <= this.#parts.limits[gpu]!);
  }

  /** Bytes of each GPU. `options`: what the plan was made with. */
  needs(plan: ExecutionPlan, options: PlanOptions): number[] {
    const { model, limits } = this.#parts;
    const { hidden, scratch, logits } = bufferBytes(model, plan, { ...options, deviceCount: 1 });
    const attending = attendingLayers(model);
    const placement = options.placeWeights?.(plan.weights.share);
    return limits.map((_, gpu) => {
      const isHere = (layer: number): boolean => this.#ranges[layer] === gpu;
      const weights = placement ? this.#residentBytes(placement, gpu) : 0;
      const caches = attending.map((layer, i) => (isHere(layer) && plan.bytes.kv > 0 ? cacheBytesOfLayer(model, plan, i) : 0));
      const head = isHere(model.layers.length - 1) ? logits : 0;
      return weights + plan.bytes.ring / limits.length + sumOf(caches) + hidden + scratch + head;
    });
  }
}

/** Undefined where a budget is too small for any plan. */
function unlessTooLarge(make: () => ExecutionPlan): ExecutionPlan | undefined {
  try {
    return make();
  } catch (cause) {
    if (cause instanceof MemoryError) return undefined;
    throw cause;
  }
}

const sumOf = (numbers: readonly number[]): number => numbers.reduce((sum, each) => sum + each, 0);
