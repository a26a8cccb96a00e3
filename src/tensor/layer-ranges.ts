/**
 * Several devices as one: each of them holds a range of a model's layers and computes it, with the cache of these layers. Only what layers hand on crosses
 * from one to the next, by way of the processor's memory.
 */
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import { Turns } from '../util/turns.ts';
import type {
  Arena,
  ArenaRules,
  Batch,
  BatchNeeds,
  BatchRow,
  Device,
  DeviceCapabilities,
  DeviceMemory,
  DeviceRoom,
  HostArena,
  Program,
  Tensor,
  Tier,
} from './device.ts';
import { commonCapabilities, commonRules } from './common-capabilities.ts';
import type { DType } from './dtype.ts';
import { tensorsOf, withTensor } from './node-tensors.ts';
import type { Node, OpGraph } from './op-graph.ts';
import { RoamingTensor } from './roaming-tensor.ts';

export interface RangeParts {
  /** Of one kind. */
  readonly devices: readonly Device[];
  /** The device of each layer, as an index. */
  readonly ranges: readonly number[];
  /** Gains a piece of `compute` for each program, and of `download` and `upload` for what crosses. */
  readonly lanes?: LaneLog | undefined;
}

/** Owns its devices. */
export class LayerRanges implements Device {
  readonly name: string;
  readonly tier: Tier;
  readonly capabilities: DeviceCapabilities;
  readonly arenaRules: ArenaRules;
  /** All micro-batches of a sweep are in the same layer, on one device. */
  readonly runsAtOnce = 1;
  readonly #parts: RangeParts;
  /** Of the tensors that stay. */
  readonly #homes = new WeakMap<Tensor, Device>();
  readonly #crossings = new Turns();
  #crossing = new Uint8Array(0);

  constructor(parts: RangeParts) {
    const { devices, ranges } = parts;
    this.#parts = parts;
    const named = devices.map(({ name }, i) => `${name} (layers ${ranges.indexOf(i)} to ${ranges.lastIndexOf(i)})`);
    this.name = `${devices.length} GPUs: ${named.join('; ')}`;
    this.tier = devices[0]!.tier;
    this.capabilities = commonCapabilities(devices.map(({ capabilities }) => capabilities));
    this.arenaRules = commonRules(devices.map(({ arenaRules }) => arenaRules));
  }

  rangeOf(layer: number): number {
    return this.#parts.ranges[layer] ?? 0;
  }

  memory(): DeviceMemory {
    const all = this.#parts.devices.map((device) => device.memory());
    const sum = (of: (memory: DeviceMemory) => number): number => all.reduce((total, each) => total + of(each), 0);
    return {
      usedBytes: sum(({ usedBytes }) => usedBytes),
      peakBytes: sum(({ peakBytes }) => peakBytes),
      hostBytes: sum(({ hostBytes = 0 }) => hostBytes),
    };
  }

  room(): DeviceRoom | undefined {
    const parts = this.#parts.devices.flatMap((device) => device.room?.() ?? []);
    if (parts.length === 0) return undefined;
    return { freeBytes: parts.reduce((sum, { freeBytes }) => sum + freeBytes, 0), isRam: parts.some(({ isRam }) => isRam), parts };
  }

  allocate(name: string, dtype: DType, shape: readonly number[], layer?: number): Tensor {
    if (layer === undefined) return new RoamingTensor(this.#parts.devices, name, dtype, shape);
    const device = this.#deviceOf(layer);
    return this.#settle(device.allocate(name, dtype, shape), device);
  }

  reserve(name: string, byteLength: number, layer = 0): Arena {
    const device = this.#deviceOf(layer);
    if (!device.reserve) throw internalError(`${device.name} cannot place tensors`);
    const arena = device.reserve(name, byteLength);
    return {
      byteLength,
      place: (...request) => this.#settle(arena.place(...request), device),
      [Symbol.dispose]: () => arena[Symbol.dispose](),
    };
  }

  /** All devices copy from it. */
  reserveHost(name: string, byteLength: number): HostArena {
    const [first] = this.#parts.devices;
    if (!first?.reserveHost) throw internalError(`${this.name} has no RAM beside it`);
    return first.reserveHost(name, byteLength);
  }

  renew(tensor: Tensor): void {
    this.#homeOf(tensor).renew?.(tensor);
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    if (!(tensor instanceof RoamingTensor)) return this.#homeOf(tensor).write(tensor, offset, bytes);
    await tensor.holder.write(tensor.on(tensor.holder), offset, bytes);
    // What is written from the start on is all that there is.
    tensor.heldBytes = offset === 0 ? bytes.byteLength : Math.max(tensor.heldBytes, offset + bytes.byteLength);
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    if (!(tensor instanceof RoamingTensor)) return this.#homeOf(tensor).read(tensor, offset, target);
    await tensor.holder.read(tensor.on(tensor.holder), offset, target);
  }

  /** The source may be in RAM beside the devices. */
  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    await this.#homeOf(target).copy(source, sourceOffset, target, targetOffset, byteLength);
  }

  batchKey(rows: readonly BatchRow[], needs?: BatchNeeds): string {
    return this.#parts.devices[0]!.batchKey(rows, needs);
  }

  createBatch(rows: readonly BatchRow[], needs?: BatchNeeds): Batch {
    const batches = new Map<Device, Batch>();
    const batch = new RangeBatch(batches);
    try {
      for (const device of this.#parts.devices) batches.set(device, device.createBatch(rows, needs));
      return batch;
    } catch (cause) {
      batch[Symbol.dispose]();
      throw cause;
    }
  }

  /** For the device that has the tensors which the graph reads; they must all be on one. */
  compile(graph: OpGraph, batch?: Batch): Program {
    if (batch && !(batch instanceof RangeBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    const device = this.#deviceFor(graph);
    const place = (tensor: Tensor): Tensor => (tensor instanceof RoamingTensor ? tensor.on(device) : tensor);
    const nodes = Object.freeze(graph.nodes.map((node) => withTensor(node, place)));
    const program = device.compile(Object.freeze({ name: graph.name, nodes }), batch?.on(device));
    return new RangeProgram(device, program, graph.nodes);
  }

  async run(program: Program): Promise<void> {
    if (!(program instanceof RangeProgram)) throw internalError(`program ${program.name} belongs to another device`);
    const { device, own, reads, writes } = program;
    for (const tensor of reads) if (tensor.holder !== device) await this.#crossings.take(() => this.#bring(tensor, device));
    const end = this.#parts.lanes?.start('compute', program.name);
    try {
      await device.run(own);
    } finally {
      end?.();
    }
    for (const [tensor, bytes] of writes) {
      tensor.holder = device;
      tensor.heldBytes = bytes;
    }
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#crossings.idle();
    for (const device of this.#parts.devices) await device[Symbol.asyncDispose]();
  }

  async #bring(tensor: RoamingTensor, device: Device): Promise<void> {
    const { lanes } = this.#parts;
    const { holder, heldBytes } = tensor;
    if (this.#crossing.byteLength < heldBytes) this.#crossing = new Uint8Array(tensor.byteLength);
    const bytes = this.#crossing.subarray(0, heldBytes);
    const move = async (lane: 'download' | 'upload', work: () => Promise<void>): Promise<void> => {
      const end = lanes?.start(lane, `${tensor.name}, ${lane === 'download' ? `from ${holder.name}` : `to ${device.name}`}`, heldBytes);
      await work().finally(end);
    };
    await move('download', () => holder.read(tensor.on(holder), 0, bytes));
    await move('upload', () => device.write(tensor.on(device), 0, bytes));
    tensor.holder = device;
  }

  #deviceOf(layer: number): Device {
    return this.#parts.devices[this.rangeOf(layer)]!;
  }

  #settle(tensor: Tensor, device: Device): Tensor {
    this.#homes.set(tensor, device);
    return tensor;
  }

  /** Tensors in RAM beside the devices are those of the first one. */
  #homeOf(tensor: Tensor): Device {
    return this.#homes.get(tensor) ?? this.#parts.devices[0]!;
  }

  /** Of graphs without tensors that stay: the one that has what they load. */
  #deviceFor({ name, nodes }: OpGraph): Device {
    const tensors = nodes.flatMap(tensorsOf);
    const homes = new Set(tensors.flatMap((tensor) => this.#homes.get(tensor) ?? []));
    if (homes.size > 1) throw internalError(`graph ${name} reads tensors of ${[...homes].map((device) => device.name).join(' and ')}`);
    const [home] = homes;
    return home ?? tensors.find((tensor) => tensor instanceof RoamingTensor)?.holder ?? this.#parts.devices[0]!;
  }
}

class RangeProgram implements Program {
  readonly name: string;
  readonly device: Device;
  readonly own: Program;
  readonly reads: ReadonlySet<RoamingTensor>;
  /** Bytes that are written, from the start. */
  readonly writes: ReadonlyMap<RoamingTensor, number>;

  /** `nodes`: of the graph before its tensors were replaced. */
  constructor(device: Device, own: Program, nodes: readonly Node[]) {
    this.name = own.name;
    this.device = device;
    this.own = own;
    const reads = new Set<RoamingTensor>();
    const writes = new Map<RoamingTensor, number>();
    for (const node of nodes) {
      if (!('tensor' in node) || !(node.tensor instanceof RoamingTensor)) continue;
      if (node.op === 'store') writes.set(node.tensor, 4 * node.x.rows * node.x.columns);
      else if (!writes.has(node.tensor)) reads.add(node.tensor);
    }
    this.reads = reads;
    this.writes = writes;
  }

  [Symbol.dispose](): void {
    this.own[Symbol.dispose]();
  }
}

/** The inputs, on every device. */
class RangeBatch implements Batch {
  readonly #batches: ReadonlyMap<Device, Batch>;

  constructor(batches: ReadonlyMap<Device, Batch>) {
    this.#batches = batches;
  }

  on(device: Device): Batch {
    return this.#batches.get(device)!;
  }

  get key(): string {
    return this.#first.key;
  }

  get tokenCount(): number {
    return this.#first.tokenCount;
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    for (const batch of this.#batches.values()) await batch.write(rows);
  }

  [Symbol.dispose](): void {
    for (const batch of this.#batches.values()) batch[Symbol.dispose]();
  }

  get #first(): Batch {
    const [first] = this.#batches.values();
    return first!;
  }
}
