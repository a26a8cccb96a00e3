/** The tensors of a model's weights, and the memory that they lie in. */
import type { Arena, Device, HostArena, Tensor } from '../tensor/device.ts';
import { internalError, MemoryError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { WeightPlacement, WeightRows } from './placement.ts';

export class WeightMemory implements Disposable {
  readonly #device: Device;
  readonly #owned: Disposable[] = [];
  readonly #tensors = new Map<WeightRows, Tensor>();
  /** Of the tensors that lie in RAM beside the device. */
  readonly #hosts = new Map<WeightRows, HostArena>();

  constructor(device: Device) {
    this.#device = device;
  }

  tensor(rows: WeightRows): Tensor {
    const tensor = this.#tensors.get(rows);
    if (!tensor) throw internalError(`weights: rows ${rows.from} to ${rows.to} of ${rows.weight.spec.name} have no memory`);
    return tensor;
  }

  /** Undefined for tensors of the device. */
  host(rows: WeightRows): HostArena | undefined {
    return this.#hosts.get(rows);
  }

  /** In few pieces where the device can place tensors: single ones are rounded up to huge pages. @throws {MemoryError} */
  allocateStaying({ layers }: WeightPlacement): void {
    const { arenaRules } = this.#device;
    const resident = [...new Set(layers.flatMap((layer) => layer.resident))];
    const held = [...new Set(layers.flatMap(({ streamed }) => streamed.flatMap((rows) => rows.held ?? [])))];
    if (!this.#device.reserve) this.#allocateSingly(resident);
    else for (const rows of groupsOf(resident, arenaRules?.mostBytes)) this.#place(this.#reserve('weights', bytesOf(rows)), rows);
    for (const rows of groupsOf(held, arenaRules?.mostHostBytes)) this.#allocateHeld(rows);
  }

  /** Slots of `slotBytes` each, and in the slot that `slots` says the rows of each layer. @throws {MemoryError} */
  allocatePassing(layers: readonly (readonly WeightRows[])[], slots: readonly number[], slotBytes: number): void {
    const arenas = Array.from({ length: Math.max(-1, ...slots) + 1 }, (_, i) => this.#reserve(`weights in passing ${i}`, slotBytes));
    for (const [i, rows] of layers.entries()) this.#place(arenas[slots[i]!]!, rows);
  }

  [Symbol.dispose](): void {
    for (const memory of this.#owned.splice(0)) memory[Symbol.dispose]();
    this.#tensors.clear();
    this.#hosts.clear();
  }

  #allocateSingly(all: readonly WeightRows[]): void {
    for (const rows of all) {
      const tensor = this.#device.allocate(rows.weight.spec.name, rows.weight.deviceType, shapeOf(rows));
      this.#owned.push(tensor);
      this.#tensors.set(rows, tensor);
    }
  }

  #allocateHeld(all: readonly WeightRows[]): void {
    if (!this.#device.reserveHost) throw internalError(`${this.#device.name} has no RAM beside it`);
    const arena = this.#device.reserveHost('weights in RAM', bytesOf(all));
    this.#owned.push(arena);
    this.#place(arena, all);
    for (const rows of all) this.#hosts.set(rows, arena);
  }

  #reserve(name: string, byteLength: number): Arena {
    const { name: device, arenaRules: { mostBytes } = { mostBytes: Infinity } } = this.#device;
    if (!this.#device.reserve) throw internalError(`${device} cannot place weights`);
    if (byteLength > mostBytes) {
      const [asked, most] = [formatBytes(byteLength), formatBytes(mostBytes)];
      throw new MemoryError(`${name}: ${asked} in one piece, ${device} gives at most ${most}; a smaller type (--dtype) would need less`, {
        bytes: byteLength,
        mostBytes,
      });
    }
    const arena = this.#device.reserve(name, byteLength);
    this.#owned.push(arena);
    return arena;
  }

  #place(arena: Arena, all: readonly WeightRows[]): void {
    let offset = 0;
    for (const rows of all) {
      this.#tensors.set(rows, arena.place(rows.weight.spec.name, rows.weight.deviceType, shapeOf(rows), offset));
      offset += rows.placedBytes;
    }
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
