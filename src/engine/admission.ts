/** Who enters the block, and where: requests in their order, behind those that had to leave. */
import type { KvCache } from '../kv/kv-cache.ts';
import type { Model } from '../models/model.ts';
import { internalError } from '../util/errors.ts';
import type { Block } from './block.ts';
import type { ExecutionPlan } from './execution-plan.ts';
import type { Inlet } from './inlet.ts';
import type { LengthEstimate } from './length-estimate.ts';
import type { Prefixes } from './prefixes.ts';
import type { Sequence, SequenceRequest } from './sequence.ts';
import type { EngineInput } from './sweep-outcome.ts';

export interface AdmissionParts {
  readonly model: Model;
  readonly plan: ExecutionPlan;
  readonly cache: KvCache;
  readonly prefixes: Prefixes;
  readonly block: Block;
  readonly lengths: LengthEstimate;
  /** Whether every row gets room for all tokens that it may generate. */
  readonly reserveAll: boolean;
}

export class Admission {
  readonly #parts: AdmissionParts;

  constructor(parts: AdmissionParts) {
    this.#parts = parts;
  }

  /** Fills the block as far as slots, cache and source allow. @returns prompt tokens admitted */
  async admit(inlet: Inlet<EngineInput>, signal: AbortSignal | undefined): Promise<number> {
    const { block } = this.#parts;
    let admitted = 0;
    for (;;) {
      if (this.#slotsWithRoom().length === 0) return admitted;
      const waiting = block.nextWaiting;
      if (waiting) {
        if (!this.#comeBack(waiting)) return admitted;
        continue;
      }
      const request = await inlet.peek(block.running === 0);
      if (!request) return admitted;
      if (request === 'pause') {
        inlet.take();
        return admitted;
      }
      signal?.throwIfAborted();
      if (!(await this.#enter(request))) return admitted;
      inlet.take();
      admitted += request.tokens.length;
    }
  }

  /** Indices, the emptiest first. */
  #slotsWithRoom(): number[] {
    const { block, plan } = this.#parts;
    return block.byLength().filter((i) => block.slots[i]!.length < plan.gpuBatchSize);
  }

  /** @returns whether there is room for the sequence */
  async #enter(request: SequenceRequest): Promise<boolean> {
    const { block, prefixes } = this.#parts;
    let sequence = await this.#open(request, block.sequences);
    if (!sequence && block.running > 0) return false;
    if (!sequence) {
      prefixes.clear();
      sequence = await this.#open(request, []);
    }
    if (!sequence) throw internalError(`sequence ${request.id} never fits; it was not checked`);
    block.enter(sequence, sequence.bay);
    await prefixes.keep(sequence, sequence.shared);
    return true;
  }

  /** For the emptiest slot that has room. Slots differ in their room on disk alone. */
  async #open(request: SequenceRequest, running: readonly Sequence[]): Promise<Sequence | undefined> {
    const { model, cache, prefixes, lengths, reserveAll } = this.#parts;
    const { tokens, sampling } = request;
    const maxLength = Math.min(tokens.length + sampling.maxTokens, model.contextLength);
    const reserve = reserveAll ? maxLength : Math.min(maxLength, tokens.length + lengths.tokens(sampling.maxTokens));
    for (const bay of this.#slotsWithRoom()) {
      const sequence = await prefixes.open(request, { maxLength, reserve, bay }, running);
      if (sequence) return sequence;
      if (!cache.spill) return undefined;
    }
    return undefined;
  }

  /** It gets all the room that it may ever need, so that it need not leave again. @returns whether there is so much */
  #comeBack(sequence: Sequence): boolean {
    const { block, prefixes } = this.#parts;
    let slot = this.#reopen(sequence);
    if (slot === undefined && block.running === 0) {
      prefixes.clear();
      slot = this.#reopen(sequence);
      if (slot === undefined) throw internalError(`sequence ${sequence.request.id} does not fit the empty cache`);
    }
    if (slot === undefined) return false;
    block.enter(sequence, slot);
    return true;
  }

  /** @returns the slot in which it has room now */
  #reopen(sequence: Sequence): number | undefined {
    for (const slot of this.#slotsWithRoom()) {
      const cache = this.#parts.cache.open(sequence.maxLength, undefined, slot);
      if (!cache) continue;
      sequence.resume(cache);
      return slot;
    }
    return undefined;
  }
}
