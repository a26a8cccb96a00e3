/** Runs sweeps: acquires weights, keeps compiled graphs for reuse, hands logits to the caller. Decides nothing. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { KvStaging, StagedPages, StagedStep, StagedSweep } from '../kv/kv-staging.ts';
import { stageRows, type StagedRows } from '../kv/stage-rows.ts';
import { type LayerInputs, type Model, attentionWindows } from '../models/model.ts';
import type { Batch, BatchRow, Device, Program, Tensor, Weight } from '../tensor/device.ts';
import { GraphBuilder } from '../tensor/graph.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import type { WeightStore } from '../weights/weight-store.ts';
import type { ExecutionPlan } from './execution-plan.ts';
import type { HiddenStates } from './hidden-states.ts';
import { InFlight } from './in-flight.ts';
import type { MicroBatch, OutputPosition } from './micro-batch.ts';
import { ProgramCache, type ShapePrograms } from './program-cache.ts';
import { sweepSteps } from './schedule.ts';

/** Receives the logits of some outputs, [outputs, vocabulary]. The array is reused for the next ones. */
export type OnLogits = (outputs: readonly OutputPosition[], logits: Float32Array) => Promise<void>;

export interface ExecutorParts {
  readonly device: Device;
  readonly model: Model;
  readonly weights: WeightStore;
  readonly cache: KvCache;
  /** Where pages of the cache on disk pass through memory, if there are such. */
  readonly staging?: KvStaging | undefined;
  readonly hidden: HiddenStates;
  readonly plan: ExecutionPlan;
  /** Gains a piece of `compute` for each layer run of a micro-batch. */
  readonly lanes?: LaneLog;
}

export class Executor implements Disposable {
  readonly #parts: ExecutorParts;
  readonly #logits: Tensor;
  /** Of devices whose memory the processor does not reach. */
  #hostLogits: Float32Array | undefined;
  readonly #programs: ProgramCache;
  /** Index among the attending layers, for the cache. */
  readonly #cacheIndex: readonly number[];
  /** Of the attending layers. */
  readonly #windows: readonly number[];

  /** @throws {MemoryError} */
  constructor(parts: ExecutorParts) {
    const { device, model, plan } = parts;
    this.#parts = parts;
    const head = model.layers.length - 1;
    this.#logits = device.allocate('logits', 'f32', [plan.headRows, model.vocabularySize], head);
    this.#windows = attentionWindows(model);
    this.#programs = new ProgramCache(device, head, plan.numGpuBatches * plan.sweepChunks, {
      windows: [...new Set(this.#windows)],
      lengthLimit: model.originalContext,
    });
    let attending = 0;
    this.#cacheIndex = model.layers.map((layer) => (layer.attends ? attending++ : -1));
  }

  /** One pass over all layers. @throws {Error} of the signal, {NativeError}, {FormatError} from weights that are still being read */
  async sweep(microBatches: readonly MicroBatch[], onLogits: OnLogits, signal?: AbortSignal): Promise<void> {
    const { device, model, weights, hidden } = this.#parts;
    await hidden.begin(microBatches.length);
    const staged = microBatches.map(({ rows }) => stageRows(rows));
    const shapes = await Promise.all(staged.map(({ rows }, i) => this.#prepare(rows, i)));
    const last = model.layers.length - 1;
    let ready: ReadonlyMap<string, Weight> = new Map();
    let held: number | undefined;
    await using cache = this.#stage(staged);
    const runs = new InFlight(cache ? 1 : device.runsAtOnce); // pages that pass through slots are asked for one run at a time
    try {
      for (const { layer, microBatch, acquire, release } of sweepSteps(model.layers.length, microBatches.length)) {
        signal?.throwIfAborted();
        if (acquire) {
          ready = await weights.acquire(layer);
          held = layer;
        }
        await hidden.acquire(microBatch);
        const shape = shapes[microBatch]!;
        if (layer < last) await runs.add(() => this.#runLayer(layer, microBatch, shape, ready, cache));
        else {
          await this.#runHead(microBatch, microBatches[microBatch]!.outputs, ready, onLogits);
          hidden.release(microBatch, shape.batch.tokenCount, true);
        }
        if (!release) continue;
        await runs.end();
        weights.release(layer);
        held = undefined;
      }
    } finally {
      await runs.settle();
      if (held !== undefined) weights.release(held);
    }
  }

  /** Repeats rows of the last sweep layer by layer. @returns the first layer and token whose hidden state is not finite */
  async findNonFinite(rows: readonly BatchRow[]): Promise<{ layer: string; row: number } | undefined> {
    const { device, model, weights } = this.#parts;
    await this.#parts.hidden.begin(1);
    const staged = stageRows(rows);
    const shape = await this.#prepare(staged.rows, 0);
    await using cache = this.#stage([staged]);
    const hidden = new Float32Array(shape.batch.tokenCount * model.hiddenSize);
    for (const [index, layer] of model.layers.slice(0, -1).entries()) {
      const ready = await weights.acquire(index);
      try {
        await this.#runLayer(index, 0, shape, ready, cache);
      } finally {
        weights.release(index);
      }
      await device.read(this.#parts.hidden.tensor(0), 0, bytesOf(hidden));
      const bad = hidden.findIndex((value) => !Number.isFinite(value));
      if (bad >= 0) return { layer: layer.name, row: Math.floor(bad / model.hiddenSize) };
    }
    return undefined;
  }

  [Symbol.dispose](): void {
    this.#programs[Symbol.dispose]();
    this.#logits[Symbol.dispose]();
  }

  async #prepare(rows: readonly BatchRow[], index: number): Promise<ShapePrograms> {
    const shape = this.#programs.forBatch(index, rows);
    await shape.batch.write(rows);
    return shape;
  }

  /** Begins to read what layers attend to on disk, in the order of the steps. */
  #stage(microBatches: readonly StagedRows[]): StagedSweep | undefined {
    const { model, staging } = this.#parts;
    const steps: StagedStep[] = [];
    for (const { layer, microBatch } of sweepSteps(model.layers.length - 1, microBatches.length)) {
      const index = this.#cacheIndex[layer]!;
      const pages = index < 0 ? [] : (microBatches[microBatch]!.pages.get(this.#windows[index]!) ?? []);
      if (pages.length > 0) steps.push({ layer: index, microBatch, pages });
    }
    return steps.length > 0 ? staging?.open(steps) : undefined;
  }

  async #runLayer(
    index: number,
    microBatch: number,
    shape: ShapePrograms,
    weights: ReadonlyMap<string, Weight>,
    cache: StagedSweep | undefined,
  ): Promise<void> {
    const staged = await cache?.acquire(this.#cacheIndex[index]!, microBatch);
    const key = `${index} ${this.#parts.weights.binding} ${staged?.slot ?? ''}`;
    const program = shape.program(key, () => this.#compileLayer(index, microBatch, shape.batch, weights, staged));
    await this.#compute(program, microBatch);
    cache?.release(this.#cacheIndex[index]!, microBatch);
    this.#parts.hidden.release(microBatch, shape.batch.tokenCount, false);
  }

  async #compute(program: Program, microBatch: number): Promise<void> {
    const { device, lanes } = this.#parts;
    const end = device.runsAtOnce === undefined ? lanes?.start('compute', `${program.name}, batch ${microBatch}`) : undefined;
    try {
      await device.run(program);
    } finally {
      end?.();
    }
  }

  #compileLayer(
    index: number,
    microBatch: number,
    batch: Batch,
    weights: ReadonlyMap<string, Weight>,
    staged: StagedPages | undefined,
  ): Program {
    const { device, model, cache, plan } = this.#parts;
    const layer = model.layers[index]!;
    const hidden = this.#parts.hidden.tensor(microBatch);
    const graph = new GraphBuilder(layer.name, batch.tokenCount, { attnSparsity: plan.attnSparsity });
    const inputs: LayerInputs = {
      weights,
      ...(index > 0 && { hidden: graph.load(hidden) }),
      ...(layer.attends && { cache: { ...cache.layers[this.#cacheIndex[index]!]!, staged } }),
    };
    graph.store(layer.build(graph, inputs), hidden);
    return device.compile(graph.finish(), batch);
  }

  /** The head sees sampled and scored positions only, a bounded number at a time. */
  async #runHead(
    microBatch: number,
    outputs: readonly OutputPosition[],
    weights: ReadonlyMap<string, Weight>,
    onLogits: OnLogits,
  ): Promise<void> {
    const { device, model, plan } = this.#parts;
    const width = model.vocabularySize;
    for (let from = 0; from < outputs.length; from += plan.headRows) {
      const part = outputs.slice(from, from + plan.headRows);
      const head = this.#programs.forHead(microBatch, part.length);
      await device.write(head.ids, 0, bytesOf(Int32Array.from(part, ({ row }) => row)));
      const program = head.program(`head ${this.#parts.weights.binding}`, () => this.#compileHead(microBatch, head.ids, weights));
      await this.#compute(program, microBatch);
      await onLogits(part, await this.#readLogits(part.length * width));
    }
  }

  /** Where they lie, if the processor reaches them there. */
  async #readLogits(count: number): Promise<Float32Array> {
    const { device } = this.#parts;
    if (device.view) return floatsOf(device.view(this.#logits, 0, count * 4));
    this.#hostLogits ??= new Float32Array(this.#logits.byteLength / 4);
    const logits = this.#hostLogits.subarray(0, count);
    await device.read(this.#logits, 0, bytesOf(logits));
    return logits;
  }

  #compileHead(microBatch: number, ids: Tensor, weights: ReadonlyMap<string, Weight>): Program {
    const { device, model } = this.#parts;
    const layer = model.layers.at(-1);
    if (!layer) throw internalError('a model without layers');
    const graph = new GraphBuilder(layer.name, ids.shape[0]!);
    const hidden = graph.select(this.#parts.hidden.tensor(microBatch), ids);
    graph.store(layer.build(graph, { hidden, weights }), this.#logits);
    return device.compile(graph.finish());
  }
}

const floatsOf = (bytes: Uint8Array): Float32Array => new Float32Array(bytes.buffer, bytes.byteOffset, bytes.byteLength / 4);

const bytesOf = (array: Float32Array | Int32Array): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
