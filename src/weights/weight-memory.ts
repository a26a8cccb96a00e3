/** The tensors of a model's weights, and the memory that they lie in. */
import type { Arena, Device, HostArena, Tensor } from '../tensor/device.ts';
import { internalError, MemoryError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { WeightPlacement, WeightRows } from './placement.ts';

/** A layer, and its rows that pass through. */
export interface PassingLayer {
  readonly layer: number;
  readonly streamed: readonly WeightRows[];
}

export class WeightMemory implements Disposable {
  readonly #device: Device;
  readonly #owned: Disposable[] = [];
  /** For each of the devices that are joined in this one. */
  readonly #tensors = new Map<number, Map<WeightRows, Tensor>>();
  /** Of those that lie in RAM beside the device. */
  readonly #held = new Map<WeightRows, { readonly tensor: Tensor; readonly arena: HostArena }>();

  constructor(device: Device) {
    this.#device = device;
  }

  /** Of a weight that several layers use, each device that computes one of them has its own. */
  tensor(rows: WeightRows, layer: number): Tensor {
    const tensor = this.#held.get(rows)?.tensor ?? this.#tensorsFor(layer).get(rows);
    if (!tensor) throw internalError(`weights: rows ${rows.from} to ${rows.to} of ${rows.weight.spec.name} have no memory`);
    return tensor;
  }

  /** Undefined for tensors of the device. */
  host(rows: WeightRows): HostArena | undefined {
    return this.#held.get(rows)?.arena;
  }

  /** In few pieces where the device can place tensors: single ones are rounded up to huge pages. @throws {MemoryError} */
  allocateStaying({ layers }: WeightPlacement): void {
    const { arenaRules } = this.#device;
    for (const { first, rows } of this.#ranges(layers)) {
      if (!this.#device.reserve) this.#allocateSingly(rows, first);
      else
        for (const group of groupsOf(rows, arenaRules?.mostBytes))
          this.#place(this.#reserve('weights', bytesOf(group), first), group, first);
    }
    const held = [...new Set(layers.flatMap(({ streamed }) => streamed.flatMap((rows) => rows.held ?? [])))];
    for (const rows of groupsOf(held, arenaRules?.mostHostBytes)) this.#allocateHeld(rows);
  }

  /** Slots of `slotBytes` each on every device that computes such layers, and in the slot that `slots` says the rows of each. @throws {MemoryError} */
  allocatePassing(layers: readonly PassingLayer[], slots: readonly number[], slotBytes: number): void {
    const arenas = new Map<string, Arena>();
    for (const [i, { layer, streamed }] of layers.entries()) {
      const slot = `${slots[i]!} ${this.#rangeOf(layer)}`;
      const arena = arenas.get(slot) ?? this.#reserve(`weights in passing ${slots[i]!}`, slotBytes, layer);
      arenas.set(slot, arena);
      this.#place(arena, streamed, layer);
    }
  }

  [Symbol.dispose](): void {
    for (const memory of this.#owned.splice(0)) memory[Symbol.dispose]();
    this.#tensors.clear();
    this.#held.clear();
  }

  #rangeOf(layer: number): number {
    return this.#device.rangeOf?.(layer) ?? 0;
  }

  /** What stays of the layers that one device computes, with the first of them; rows that several layers use once. */
  #ranges(layers: WeightPlacement['layers']): { readonly first: number; readonly rows: readonly WeightRows[] }[] {
    const ranges = layers.map((_, layer) => this.#rangeOf(layer));
    return [...new Set(ranges)].map((range) => ({
      first: ranges.indexOf(range),
      rows: [...new Set(layers.flatMap(({ resident }, layer) => (ranges[layer] === range ? resident : [])))],
    }));
  }

  #allocateSingly(all: readonly WeightRows[], layer: number): void {
    for (const rows of all) {
      const tensor = this.#device.allocate(rows.weight.spec.name, rows.weight.deviceType, shapeOf(rows), layer);
      this.#owned.push(tensor);
      this.#tensorsFor(layer).set(rows, tensor);
    }
  }

  #allocateHeld(all: readonly WeightRows[]): void {
    if (!this.#device.reserveHost) throw internalError(`${this.#device.name} has no RAM beside it`);
    const arena = this.#device.reserveHost('weights in RAM', bytesOf(all));
    this.#owned.push(arena);
    placeAll(arena, all, (rows, tensor) => this.#held.set(rows, { tensor, arena }));
  }

  #reserve(name: string, byteLength: number, layer: number): Arena {
    const { name: device, arenaRules: { mostBytes } = { mostBytes: Infinity } } = this.#device;
    if (!this.#device.reserve) throw internalError(`${device} cannot place weights`);
    if (byteLength > mostBytes) {
      const [asked, most] = [formatBytes(byteLength), formatBytes(mostBytes)];
      throw new MemoryError(`${name}: ${asked} in one piece, ${device} gives at most ${most}; a smaller type (--dtype) would need less`, {
        bytes: byteLength,
        mostBytes,
      });
    }
    const arena = this.#device.reserve(name, byteLength, layer);
    this.#owned.push(arena);
    return arena;
  }

  #place(arena: Arena, all: readonly WeightRows[], layer: number): void {
    const tensors = this.#tensorsFor(layer);
    placeAll(arena, all, (rows, tensor) => tensors.set(rows, tensor));
  }

  #tensorsFor(layer: number): Map<WeightRows, Tensor> {
    const range = this.#rangeOf(layer);
    const tensors = this.#tensors.get(range) ?? new Map<WeightRows, Tensor>();
    this.#tensors.set(range, tensors);
    return tensors;
  }
}

/** One behind the other. */
function placeAll(arena: Arena, all: readonly WeightRows[], placed: (rows: WeightRows, tensor: Tensor) => void): void {
  let offset = 0;
  for (const rows of all) {
    placed(rows, arena.place(rows.weight.spec.name, rows.weight.deviceType, shapeOf(rows), offset));
    offset += rows.placedBytes;
  }
}

const bytesOf = (all: readonly WeightRows[]): number => all.reduce((sum, { placedBytes }) => sum + placedBytes, 0);

/** Groups of rows that follow each other, of at most so many bytes each where no single one has more. */
function groupsOf(all: readonly WeightRows[], mostBytes = Infinity): WeightRows[][] {
  const groups: WeightRows[][] = [];
  let room = 0;
  for (const rows of all) {
    if (rows.placedBytes > room) {
      groups.push([]);
      room = mostBytes;
    }
    groups.at(-1)!.push(rows);
    room -= rows.placedBytes;
  }
  return groups;
}

function shapeOf({ weight, from, to }: WeightRows): readonly number[] {
  const { shape } = weight.spec;
  return from === 0 && to === (shape[0] ?? 1) ? shape : [to - from, ...shape.slice(1)];
}
