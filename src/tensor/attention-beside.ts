/**
 * A device whose attention another one computes, where the KV cache lies: a GPU with the cache in RAM, or on disk beyond it. Queries, keys and values of new
 * tokens go there and results come back; the cache never moves (docs/decisions/0011-attention-beside-a-gpu.md).
 */
import type { Kernels, Team } from '../native/kernels.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import { Turns } from '../util/turns.ts';
import { CrossingTensors, type GraphCrossings } from './crossing-tensors.ts';
import type { Batch, BatchNeeds, BatchRow, Device, DeviceCapabilities, DeviceMemory, Program, Tensor, Tier } from './device.ts';
import type { DType } from './dtype.ts';
import type { OpGraph, Value } from './op-graph.ts';
import { splitAtAttention } from './split-graph.ts';

export interface BesideParts {
  /** Computes all but attention, and holds all but the cache. */
  readonly device: Device;
  /** Attends. */
  readonly attending: Device;
  /** Most tokens of one micro-batch. */
  readonly batchTokens: number;
  /** Gains a piece of `compute` for each part of a program, and of `download` and `upload` for each attention. */
  readonly lanes?: LaneLog | undefined;
}

/** While one of them attends, the other one computes. */
export const RUNS_AT_ONCE = 2;

/** Owns neither of the two devices. */
export class AttentionBeside implements Device {
  readonly name: string;
  readonly tier: Tier;
  readonly capabilities: DeviceCapabilities;
  readonly runsAtOnce: number = RUNS_AT_ONCE;
  readonly #parts: BesideParts;
  /** Of each run that may be in flight. */
  readonly #crossings: readonly CrossingTensors[];
  readonly #turns = { device: new Turns(), attending: new Turns(), runs: Array.from({ length: RUNS_AT_ONCE }, () => new Turns()) };

  constructor(parts: BesideParts) {
    const { device, attending, batchTokens } = parts;
    this.#parts = parts;
    this.name = `${device.name}; attention: ${attending.name}`;
    this.tier = device.tier;
    const { kv, pagedAttention, stagedPages, cacheOrder, sparseAttention } = attending.capabilities;
    this.capabilities = { ...device.capabilities, kv, pagedAttention, stagedPages, cacheOrder, sparseAttention };
    this.#crossings = Array.from({ length: RUNS_AT_ONCE }, () => new CrossingTensors({ device, attending }, batchTokens));
  }

  /** Of the device that holds all but the cache. */
  memory(): DeviceMemory {
    return this.#parts.device.memory();
  }

  allocate(name: string, dtype: DType, shape: readonly number[], layer?: number): Tensor {
    return this.#parts.device.allocate(name, dtype, shape, layer);
  }

  write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    return this.#parts.device.write(tensor, offset, bytes);
  }

  read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    return this.#parts.device.read(tensor, offset, target);
  }

  copy(source: Tensor, sourceOffset: number, target: Tensor, targetOffset: number, byteLength: number): Promise<void> {
    return this.#parts.device.copy(source, sourceOffset, target, targetOffset, byteLength);
  }

  withKernels<T>(call: (kernels: Kernels, team: Team) => Promise<T>): Promise<T> {
    const { attending } = this.#parts;
    if (!attending.withKernels) throw internalError(`${attending.name} has no kernels of ours`);
    return attending.withKernels(call);
  }

  batchKey(rows: readonly BatchRow[], needs?: BatchNeeds): string {
    const { device, attending } = this.#parts;
    return `${device.batchKey(rows, withoutAttention(needs))} | ${attending.batchKey(rows, needs)}`;
  }

  createBatch(rows: readonly BatchRow[], needs?: BatchNeeds): Batch {
    const { device, attending } = this.#parts;
    const batches = { device: device.createBatch(rows, withoutAttention(needs)), attending: attending.createBatch(rows, needs) };
    return new PairedBatch(this.batchKey(rows, needs), batches, (needs?.microBatch ?? 0) % RUNS_AT_ONCE);
  }

  compile(graph: OpGraph, batch?: Batch): Program {
    if (batch && !(batch instanceof PairedBatch)) throw internalError(`graph ${graph.name}: its batch belongs to another device`);
    const turn = batch?.turn ?? 0;
    const crossings = this.#crossings[turn]!.forGraph();
    const side = (attends: boolean) => (attends ? 'attending' : 'device');
    const parts = splitAtAttention(graph, (value, attends) => crossings.tensor(value, side(attends)));
    const isAttended = ({ node }: Value): boolean => graph.nodes[node]!.op === 'attention';
    const attended = new Set(parts.flatMap(({ attends, imports }) => (attends ? imports.map(({ node }) => node) : [])));
    const steps: Step[] = [];
    const program = new BesideProgram(graph.name, turn, steps, crossings);
    try {
      for (const { graph: part, attends, imports, exports } of parts) {
        const own = this.#parts[side(attends)].compile(part, batch?.batches[side(attends)]);
        steps.push({ program: own, attends, received: imports.filter(isAttended), sent: exports.filter(({ node }) => attended.has(node)) });
      }
    } catch (cause) {
      program[Symbol.dispose]();
      throw cause;
    }
    return program;
  }

  /** A second run may begin before the first one has ended: it computes while that attends. Runs attend in the order in which they began. */
  async run(program: Program): Promise<void> {
    if (!(program instanceof BesideProgram)) throw internalError(`program ${program.name} belongs to another device`);
    await this.#turns.runs[program.turn]!.take(async () => {
      for (const step of program.steps) await this.#runStep(program, step);
    });
  }

  /** Waits for what runs. */
  async [Symbol.asyncDispose](): Promise<void> {
    await Promise.all(this.#turns.runs.map((turns) => turns.idle()));
    for (const crossing of this.#crossings) crossing[Symbol.dispose]();
  }

  async #runStep(whole: BesideProgram, { program, attends, received, sent }: Step): Promise<void> {
    const { device, attending } = this.#parts;
    if (attends) return this.#turns.attending.take(() => this.#compute(attending, program));
    for (const value of received) await this.#move('upload', whole, value);
    // What attention waits for leaves the device before the next step of another run begins there.
    await this.#turns.device.take(async () => {
      await this.#compute(device, program);
      for (const value of sent) await this.#move('download', whole, value);
    });
  }

  async #compute(device: Device, program: Program): Promise<void> {
    const end = device.runsAtOnce === undefined ? this.#parts.lanes?.start('compute', program.name) : undefined;
    try {
      await device.run(program);
    } finally {
      end?.();
    }
  }

  async #move(lane: 'upload' | 'download', { name, crossings }: BesideProgram, value: Value): Promise<void> {
    const { device, attending, lanes } = this.#parts;
    const byteLength = 4 * value.rows * value.columns;
    const [near, far] = [crossings.tensor(value, 'device'), crossings.tensor(value, 'attending')];
    const view = attending.view?.(far, 0, byteLength);
    const bytes = view ?? new Uint8Array(byteLength);
    const end = lanes?.start(lane, `${name}, ${lane === 'download' ? 'to' : 'from'} attention`, byteLength);
    try {
      if (lane === 'download') await device.read(near, 0, bytes);
      if (!view) await (lane === 'download' ? attending.write(far, 0, bytes) : attending.read(far, 0, bytes));
      if (lane === 'upload') await device.write(near, 0, bytes);
    } finally {
      end?.();
    }
  }
}

/** A part of a program. */
interface Step {
  readonly program: Program;
  readonly attends: boolean;
  /** Results of attention that it reads. */
  readonly received: readonly Value[];
  /** Its results that attention reads. */
  readonly sent: readonly Value[];
}

class BesideProgram implements Program {
  readonly name: string;
  /** Programs with the same number share tensors. */
  readonly turn: number;
  readonly steps: readonly Step[];
  readonly crossings: GraphCrossings;

  constructor(name: string, turn: number, steps: readonly Step[], crossings: GraphCrossings) {
    this.name = name;
    this.turn = turn;
    this.steps = steps;
    this.crossings = crossings;
  }

  [Symbol.dispose](): void {
    for (const { program } of this.steps) program[Symbol.dispose]();
  }
}

/** The inputs of both devices. */
class PairedBatch implements Batch {
  readonly key: string;
  readonly batches: { readonly device: Batch; readonly attending: Batch };
  readonly turn: number;

  constructor(key: string, batches: PairedBatch['batches'], turn: number) {
    this.key = key;
    this.batches = batches;
    this.turn = turn;
  }

  get tokenCount(): number {
    return this.batches.attending.tokenCount;
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    await this.batches.device.write(rows);
    await this.batches.attending.write(rows);
  }

  [Symbol.dispose](): void {
    this.batches.device[Symbol.dispose]();
    this.batches.attending[Symbol.dispose]();
  }
}

const withoutAttention = (needs: BatchNeeds | undefined): BatchNeeds => ({ ...needs, windows: [] });
