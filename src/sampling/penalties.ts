import type { SamplingParams } from './params.ts';

/** What a penalty weighs. */
export type PenaltyParams = Pick<SamplingParams, 'repetitionPenalty' | 'presencePenalty' | 'frequencyPenalty'>;

export function hasPenalties({ repetitionPenalty, presencePenalty, frequencyPenalty }: PenaltyParams): boolean {
  return repetitionPenalty !== 1 || presencePenalty !== 0 || frequencyPenalty !== 0;
}

/** The different tokens of a sequence in rising order, and how often each was generated. */
export class TokenCounts {
  #ids: Int32Array;
  #counts: Int32Array;
  #size: number;

  /** @param prompt tokens that count as present, but not as generated */
  constructor(prompt: Int32Array) {
    this.#ids = Int32Array.from(new Set(prompt)).sort();
    this.#size = this.#ids.length;
    this.#counts = new Int32Array(this.#size);
  }

  /** Each id once, rising. A view, until the next `add`. */
  get ids(): Int32Array {
    return this.#ids.subarray(0, this.#size);
  }

  /** How often the id at the same index was generated. */
  get counts(): Int32Array {
    return this.#counts.subarray(0, this.#size);
  }

  /** Counts a generated token. */
  add(id: number): void {
    let at = 0;
    for (let end = this.#size; at < end;) {
      const middle = (at + end) >>> 1;
      if (this.#ids[middle]! < id) at = middle + 1;
      else end = middle;
    }
    if (at === this.#size || this.#ids[at] !== id) this.#insert(at, id);
    this.#counts[at]!++;
  }

  #insert(at: number, id: number): void {
    if (this.#size === this.#ids.length) {
      this.#ids = enlarged(this.#ids);
      this.#counts = enlarged(this.#counts);
    }
    this.#ids.copyWithin(at + 1, at, this.#size);
    this.#counts.copyWithin(at + 1, at, this.#size);
    this.#ids[at] = id;
    this.#counts[at] = 0;
    this.#size++;
  }
}

/**
 * A copy of logits in which tokens of the sequence are less likely, or more: first the repetition penalty (Hugging Face transformers, llama.cpp: positive
 * logits divided, others multiplied), then frequency and presence penalty (OpenAI: count * frequency + presence subtracted from those generated).
 */
export function penalised(logits: Float32Array, params: PenaltyParams, tokens: TokenCounts): Float32Array {
  const { repetitionPenalty, presencePenalty, frequencyPenalty } = params;
  const result = logits.slice();
  const { ids, counts } = tokens;
  for (const [i, id] of ids.entries()) {
    const x = logits[id]!;
    const repeated = x > 0 ? x / repetitionPenalty : x * repetitionPenalty;
    const count = counts[i]!;
    // Rounded to f32 by the array.
    result[id] = count > 0 ? repeated - (count * frequencyPenalty + presencePenalty) : repeated;
  }
  return result;
}

function enlarged(array: Int32Array): Int32Array {
  const result = new Int32Array(Math.max(16, 2 * array.length));
  result.set(array);
  return result;
}
