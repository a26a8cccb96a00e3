/** Continues sequences of token ids, a block at a time. Rows leave when they are done, and waiting ones enter at the next sweep. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { Model } from '../models/model.ts';
import { type RowSampler, takeRows } from '../sampling/rows.ts';
import { NumericError, RequestError, UsageError, internalError } from '../util/errors.ts';
import type { ExecutionPlan } from './execution-plan.ts';
import type { Executor } from './executor.ts';
import { Inlet } from './inlet.ts';
import { type MicroBatch, type OutputPosition, assembleChunks, chunkSizes } from './micro-batch.ts';
import { logitsRow, noteTaken, sequenceOfRow } from './outputs.ts';
import { Admission } from './admission.ts';
import { Prefixes } from './prefixes.ts';
import { Block } from './block.ts';
import { LengthEstimate } from './length-estimate.ts';
import { type EngineInput, NOTHING, type SweepOutcome } from './sweep-outcome.ts';
import type { Sequence, SequenceRequest, SequenceResult } from './sequence.ts';

export interface EngineParts {
  readonly model: Model;
  readonly plan: ExecutionPlan;
  readonly executor: Executor;
  readonly cache: KvCache;
  /** Default: the reference. */
  readonly takeRows?: RowSampler;
  /** Whether prompts that begin alike compute their beginning once. Default true. */
  readonly sharePrefixes?: boolean | undefined;
  /**
   * Whether every row gets room for all tokens that it may generate, and so never has to leave and be computed again. Default false: results are the same
   * where they do not depend on how a prompt is cut.
   */
  readonly reserveAll?: boolean | undefined;
}

export class Engine {
  readonly #model: Model;
  readonly #plan: ExecutionPlan;
  readonly #executor: Executor;
  readonly #cache: KvCache;
  readonly #prefixes: Prefixes;
  readonly #takeRows: RowSampler;
  readonly #block: Block;
  readonly #lengths = new LengthEstimate();
  readonly #admission: Admission;
  #busy = false;
  #working: Promise<unknown> = Promise.resolve();

  constructor(parts: EngineParts) {
    const { model, cache, sharePrefixes = true } = parts;
    this.#model = model;
    this.#plan = parts.plan;
    this.#executor = parts.executor;
    this.#cache = cache;
    this.#prefixes = new Prefixes(cache, sharePrefixes ? (model.originalContext ?? Infinity) : 0);
    this.#takeRows = parts.takeRows ?? takeRows;
    this.#block = new Block(parts.plan.numGpuBatches);
    this.#admission = new Admission({
      ...parts,
      prefixes: this.#prefixes,
      block: this.#block,
      lengths: this.#lengths,
      reserveAll: parts.reserveAll ?? false,
    });
  }

  /** @throws {RequestError} when the request could not be served however long it waited; says both numbers */
  check({ tokens }: Pick<SequenceRequest, 'tokens'>, maxTokens: number): void {
    this.checkLength(tokens.length, maxTokens);
    const wrong = tokens.find((id) => id < 0 || id >= this.#model.vocabularySize);
    if (wrong !== undefined) throw new RequestError(`token id ${wrong} is not in the vocabulary of ${this.#model.vocabularySize}`);
  }

  /** The same for the length alone. `bound` says that the prompt is longer still, such as `at least `. @throws {RequestError} */
  checkLength(promptTokens: number, maxTokens: number, bound = ''): void {
    const { contextLength } = this.#model;
    if (promptTokens === 0) throw new RequestError('the prompt has no tokens');
    const room = contextLength - (maxTokens > 0 ? 1 : 0);
    if (promptTokens > room) {
      throw new RequestError(`the prompt has ${bound}${promptTokens} tokens, the model's context is ${contextLength}`, { contextLength });
    }
    const shortage = this.#cache.shortage(Math.min(promptTokens + maxTokens, contextLength));
    if (shortage) {
      const { needed, capacity } = shortage;
      throw new RequestError(`the row needs ${bound}${needed} pages of KV cache, there are ${capacity}`, { pages: needed });
    }
  }

  /**
   * Sweeps until the source is empty and every sequence is done. Requests must have passed `check`.
   * @throws {UsageError} while another run goes on; {NumericError} naming the sequence and the layer; whatever the source, the weights
   * or the device throw
   */
  async *run(source: Iterable<EngineInput> | AsyncIterable<EngineInput>, signal?: AbortSignal): AsyncGenerator<SweepOutcome, void, void> {
    if (this.#busy) throw new UsageError('the model is busy: another stream has not ended; one stream runs at a time');
    this.#busy = true;
    const inlet = new Inlet(source, signal);
    try {
      for (;;) {
        const admittedTokens = await this.#track(this.#admission.admit(inlet, signal));
        if (this.#block.size === 0 && inlet.ended) return;
        signal?.throwIfAborted(); // before anything is touched that may be freed by now
        yield this.#block.running === 0 ? NOTHING : await this.#track(this.#sweep(admittedTokens, signal));
      }
    } finally {
      if (this.#block.running > 0) this.#cache.distrust();
      this.#block.clear();
      this.#prefixes.clear();
      this.#busy = false;
      await inlet.close();
    }
  }

  /** Ends a sequence between two sweeps, because its text ended. @returns what it has so far, or undefined if it is not in flight */
  stop(id: number): SequenceResult | undefined {
    const sequence = this.#block.find(id);
    if (!sequence) return undefined;
    this.#block.leave(sequence);
    return sequence.result('stop');
  }

  /** Resolves when nothing is being computed. */
  async idle(): Promise<void> {
    await this.#working.catch(() => {});
  }

  #track<T>(work: Promise<T>): Promise<T> {
    this.#working = work;
    return work;
  }

  async #sweep(admittedTokens: number, signal: AbortSignal | undefined): Promise<SweepOutcome> {
    const started = performance.now();
    const microBatches = await this.#assemble();
    const tokens: { id: number; token: number }[] = [];
    const numeric = new Map<OutputPosition, NumericError>();
    const onLogits = async (outputs: readonly OutputPosition[], logits: Float32Array): Promise<void> => {
      const width = this.#model.vocabularySize;
      const taken = await this.#takeRows(outputs.map((output, i) => logitsRow(output, logits.subarray(i * width, (i + 1) * width))));
      for (const [i, output] of outputs.entries()) {
        const result = taken[i]!;
        if (!(result instanceof Error)) tokens.push(...noteTaken(output, result));
        else if (result instanceof NumericError) numeric.set(output, result);
        else throw result;
      }
    };
    await this.#executor.sweep(microBatches, onLogits, signal);
    for (const [output, cause] of numeric) await this.#explain(output, cause, microBatches);
    const finished = await this.#settle(microBatches);
    const promptTokens = microBatches.reduce((sum, microBatch) => sum + microBatch.promptTokens, 0);
    const sharedTokens = microBatches.reduce((sum, microBatch) => sum + microBatch.sharedTokens, 0);
    const seconds = (performance.now() - started) / 1000;
    return { tokens, finished, promptTokens, sharedTokens, seconds, running: this.#block.size, admittedTokens };
  }

  async #assemble(): Promise<MicroBatch[]> {
    this.#cache.spill?.settle();
    for (const sequence of this.#block.sequences) this.#restartOutgrown(sequence);
    while (!(await this.#takePages()));
    return this.#block.slots
      .filter((slot) => !slot.every(({ awaits }) => awaits))
      .flatMap((slot) => assembleChunks(slot, this.#chunksOf(slot)));
  }

  #chunksOf(slot: readonly Sequence[]): number[][] {
    return chunkSizes(slot, this.#plan.batchTokens, this.#plan.sweepChunks);
  }

  /** Pages for what the next sweep computes. @returns false when some sequence had to leave for them, which changes what the others compute */
  async #takePages(): Promise<boolean> {
    for (const slot of this.#block.slots) {
      const pieces = this.#chunksOf(slot);
      for (const [i, sequence] of slot.entries()) {
        const tokens = pieces.reduce((sum, sizes) => sum + sizes[i]!, 0);
        if (await this.#extend(sequence, sequence.computed + tokens)) continue;
        if (this.#prefixes.keeps) this.#prefixes.clear();
        else if (!this.#block.preemptYoungest(this.#rivals(slot)))
          throw internalError(`sequence ${sequence.request.id} never fits; it was not checked`);
        return false;
      }
    }
    return true;
  }

  /** Those whose room is of use to a sequence of the slot: pages on disk are the slot's own. */
  #rivals(slot: readonly Sequence[]): readonly Sequence[] {
    return this.#cache.spill && slot.length > 1 ? slot : this.#block.sequences;
  }

  /** Pages that are on their way to disk make room. */
  async #extend({ cache }: Sequence, length: number): Promise<boolean> {
    if (await this.#cache.extend(cache, length)) return true;
    if (!(await this.#cache.spill?.idle())) return false;
    this.#cache.spill?.settle();
    return this.#cache.extend(cache, length);
  }

  /** Beyond the context that a model was first made for, other keys count for all positions. */
  #restartOutgrown(sequence: Sequence): void {
    const { originalContext } = this.#model;
    if (originalContext === undefined || !sequence.outgrows(originalContext)) return;
    sequence.cache[Symbol.dispose]();
    const cache = this.#cache.open(sequence.maxLength, sequence.computed, sequence.bay);
    if (!cache) throw internalError(`sequence ${sequence.request.id} does not fit the room that it left`);
    sequence.restart(cache);
  }

  /** Notes what was computed, hands it over to the sequences that wait for it, and lets finished ones go. */
  async #settle(microBatches: readonly MicroBatch[]): Promise<SequenceResult[]> {
    const finished: SequenceResult[] = [];
    for (const { sequences, rows } of microBatches)
      for (const [i, sequence] of sequences.entries()) sequence.advance(rows[i]!.tokens.length);
    await this.#prefixes.handOver(this.#block.sequences);
    for (const sequence of new Set(microBatches.flatMap(({ sequences }) => sequences))) {
      const scored = sequence.request.sampling.maxTokens === 0 && !sequence.inPrompt;
      const end = sequence.end ?? (scored ? 'length' : undefined);
      if (end && this.#block.running === 1) await this.#prefixes.keepLast(sequence);
      sequence.cache.slide();
      if (!end) continue;
      this.#block.leave(sequence);
      if (!scored) this.#lengths.add(sequence.generated.length);
      finished.push(sequence.result(end));
    }
    const awaited = new Set(this.#block.sequences.flatMap(({ awaits }) => (awaits ? [awaits.source] : [])));
    for (const sequence of this.#block.sequences) if (!awaited.has(sequence)) this.#cache.store(sequence.cache);
    return finished;
  }

  async #explain(output: OutputPosition, cause: NumericError, microBatches: readonly MicroBatch[]): Promise<never> {
    const microBatch = microBatches.find(({ outputs }) => outputs.includes(output))!;
    const found = await this.#executor.findNonFinite(microBatch.rows);
    const sequence = found ? sequenceOfRow(microBatch, found.row) : output.sequence;
    const layer = (await this.#earlierLayer(sequence)) ?? found?.layer ?? this.#model.layers.at(-1)!.name;
    const { id } = sequence.request;
    const message = `row ${id}, ${layer}: the result is not a number (${cause.message}); the weights may be damaged`;
    throw new NumericError(message, { row: id, layer }, { cause });
  }

  /** A prompt that came in chunks may have gone wrong in an earlier one; all is lost, so its room is there to compute it again. @returns the layer, if so */
  async #earlierLayer(sequence: Sequence): Promise<string | undefined> {
    for (const { cache } of this.#block.sequences) cache[Symbol.dispose]();
    this.#prefixes.clear();
    await this.#cache.spill?.flush();
    using cache = this.#cache.open(sequence.maxLength);
    if (!cache) throw internalError(`sequence ${sequence.request.id} does not fit the empty cache`);
    const { batchTokens } = this.#plan;
    for (let start = 0; start < sequence.computed; start += batchTokens) {
      const length = Math.min(batchTokens, sequence.computed - start);
      const tokens = Int32Array.from({ length }, (_, i) => sequence.tokenAt(start + i));
      await this.#cache.extend(cache, start + length);
      const row = { tokens, start, total: sequence.length, prompt: sequence.tokens.length, ...cache.pageLists };
      const found = await this.#executor.findNonFinite([row]);
      if (found) return found.layer;
      cache.slide();
      this.#cache.store(cache);
      await this.#cache.spill?.flush();
    }
    return undefined;
  }
}
