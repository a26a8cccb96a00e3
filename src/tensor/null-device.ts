import { internalError } from '../util/errors.ts';
import { type SimulatedClock, SimulatedLane } from '../util/simulated-clock.ts';
import type { Arena, Batch, BatchRow, Device, DeviceCapabilities, DeviceMemory, Program, Tensor, Tier } from './device.ts';
import type { DType } from './dtype.ts';
import { graphCost } from './graph-cost.ts';
import type { OpGraph } from './op-graph.ts';
import { checkBatch, RowBatch, tokenCountKey } from './row-batch.ts';
import { SCRIPT_CAPABILITIES } from './script-capabilities.ts';
import { checkByteRange, MemoryLedger, renewPlaced, TrackedArena, TrackedTensor } from './tracked-tensor.ts';

export interface NullDeviceOptions {
  readonly flopsPerSecond: number;
  /** Rate of the device's own memory. */
  readonly bytesPerSecond: number;
  /** Most bytes of tensors at one time. Default: no limit. */
  readonly memoryBytes?: number;
  /** Runs take their time on it, one after the other. Default: they take none. */
  readonly clock?: SimulatedClock;
}

/** One run of a program. */
export interface NullStep {
  /** Name of the program. */
  readonly program: string;
  readonly flops: number;
  readonly bytes: number;
  /** Simulated: the longer one of computing and moving. */
  readonly seconds: number;
}

/** A device without data: it checks and counts what it is told to do, and reads give zeros. */
export interface NullDevice extends Device {
  /** All runs so far, oldest first. */
  readonly steps: readonly NullStep[];
}

export function createNullDevice(options: NullDeviceOptions): NullDevice {
  return new CountingDevice(options);
}

class CountingDevice implements NullDevice {
  readonly name = 'null';
  readonly tier: Tier = 'cpu';
  readonly capabilities: DeviceCapabilities = SCRIPT_CAPABILITIES;
  readonly #ledger: MemoryLedger;
  readonly #options: NullDeviceOptions;
  readonly #steps: NullStep[] = [];
  readonly #lane: SimulatedLane | undefined;

  constructor(options: NullDeviceOptions) {
    this.#options = options;
    this.#ledger = new MemoryLedger(options.memoryBytes);
    this.#lane = options.clock && new SimulatedLane(options.clock, 1);
  }

  get steps(): readonly NullStep[] {
    return this.#steps;
  }

  memory(): DeviceMemory {
    return this.#ledger.snapshot();
  }

  allocate(name: string, dtype: DType, shape: readonly number[]): Tensor {
    return new TrackedTensor<undefined>(this.#ledger, { name, dtype, shape }, () => undefined);
  }

  reserve(name: string, byteLength: number): Arena {
    return new TrackedArena<undefined>(this.#ledger, name, byteLength, () => undefined);
  }

  renew(tensor: Tensor): void {
    renewPlaced(tensor);
  }

  async write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    this.#check(tensor, offset, bytes.byteLength);
  }

  async read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    this.#check(tensor, offset, target.byteLength);
    target.fill(0);
  }

  async copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    this.#check(source, sourceOffset, byteLength);
    this.#check(target, targetOffset, byteLength);
  }

  batchKey(rows: readonly BatchRow[]): string {
    return tokenCountKey(rows);
  }

  createBatch(rows: readonly BatchRow[]): Batch {
    return new RowBatch(rows);
  }

  compile(graph: OpGraph, batch?: Batch): Program {
    checkBatch(graph, batch);
    if (batch && !(batch instanceof RowBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    return new CountingProgram(graph, batch);
  }

  async run(program: Program): Promise<void> {
    if (!(program instanceof CountingProgram)) throw internalError(`program ${program.name} belongs to another device`);
    const { graph, rows } = program.open();
    for (const tensor of tensorsOf(graph)) this.#check(tensor, 0, tensor.byteLength);
    const { flops, bytes } = graphCost(graph, rows);
    const seconds = Math.max(flops / this.#options.flopsPerSecond, bytes / this.#options.bytesPerSecond);
    this.#steps.push({ program: program.name, flops, bytes, seconds });
    await this.#lane?.use(seconds);
  }

  async [Symbol.asyncDispose](): Promise<void> {}

  #check(tensor: Tensor, offset: number, byteLength: number): void {
    if (!(tensor instanceof TrackedTensor)) throw internalError(`tensor ${tensor.name} belongs to another device`);
    (tensor as TrackedTensor<undefined>).open(this.#ledger);
    checkByteRange(tensor, offset, byteLength);
  }
}

class CountingProgram implements Program {
  readonly name: string;
  readonly #batch: RowBatch | undefined;
  #graph: OpGraph | undefined;

  constructor(graph: OpGraph, batch: RowBatch | undefined) {
    this.name = graph.name;
    this.#graph = graph;
    this.#batch = batch;
  }

  open(): { graph: OpGraph; rows: readonly BatchRow[] } {
    if (!this.#graph) throw internalError(`program ${this.name} is run after it was disposed`);
    return { graph: this.#graph, rows: this.#batch?.rows() ?? [] };
  }

  [Symbol.dispose](): void {
    this.#graph = undefined;
  }
}

/** Every device tensor that a graph reads or writes. */
function tensorsOf(graph: OpGraph): Tensor[] {
  return graph.nodes.flatMap((node) => {
    const weights = [
      ...(node.op === 'embed' ? [node.table] : []),
      ...(node.op === 'moe' ? [node.gate, node.up, node.down] : []),
      ...(node.op === 'rope' ? [node.divisors] : []),
      ...(node.op === 'linear' || node.op === 'norm' ? [node.weight, node.bias] : []),
    ];
    return [
      ...('tensor' in node ? [node.tensor] : []),
      ...('ids' in node ? [node.ids] : []),
      ...('cache' in node
        ? [node.cache, ...(node.cache.staged ? [node.cache.staged] : [])].flatMap(({ keys, values }) => [keys, values])
        : []),
      ...weights.flatMap((weight) => weight?.segments.map(({ tensor }) => tensor) ?? []),
    ];
  });
}
