/** Slow and plain: what the sampler must agree with. Probabilities in f64 by full sorts, after the text of Hugging Face's processors. */
import { uniform } from '../../../src/sampling/random.ts';

export interface NaiveParams {
  readonly temperature: number;
  readonly topK: number;
  readonly topP: number;
  readonly minP?: number;
}

interface NaivePenalties {
  readonly repetitionPenalty: number;
  readonly presencePenalty: number;
  readonly frequencyPenalty: number;
}

/** Logits after the penalties, id by id. */
export function naivePenalised(
  logits: Float32Array,
  { repetitionPenalty, presencePenalty, frequencyPenalty }: NaivePenalties,
  prompt: readonly number[],
  generated: readonly number[],
): Float32Array {
  return logits.map((x, id) => {
    const count = generated.filter((one) => one === id).length;
    let score = x;
    if (prompt.includes(id) || count > 0) score = score < 0 ? score * repetitionPenalty : score / repetitionPenalty;
    score -= frequencyPenalty * count;
    return count > 0 ? score - presencePenalty : score;
  });
}

/** Probability of every id after mask, temperature, top-k, top-p and min-p. */
export function naiveProbabilities(logits: Float32Array, params: NaiveParams, allowed: (id: number) => boolean = () => true): number[] {
  let scores = Array.from(logits, (x, id) => (allowed(id) ? x / params.temperature : -Infinity));
  if (params.topK > 0) {
    const kth = scores.toSorted((a, b) => b - a)[Math.min(params.topK, scores.length) - 1]!;
    scores = scores.map((x) => (x < kth ? -Infinity : x));
  }
  if (params.topP < 1) {
    const probabilities = softmax(scores);
    const order = scores.map((_x, id) => id).toSorted((a, b) => scores[b]! - scores[a]! || a - b);
    let sum = 0;
    const kept = new Set<number>();
    for (const id of order) {
      kept.add(id);
      sum += probabilities[id]!;
      if (sum >= params.topP) break;
    }
    scores = scores.map((x, id) => (kept.has(id) ? x : -Infinity));
  }
  if (params.minP) {
    const probabilities = softmax(scores);
    const least = Math.max(...probabilities) * params.minP * (1 - 1e-12);
    scores = scores.map((x, id) => (probabilities[id]! < least ? -Infinity : x));
  }
  return softmax(scores);
}

/** First id at which the cumulative probability passes u. */
export function naiveDraw(probabilities: readonly number[], u: number): number {
  let sum = 0;
  for (const [id, p] of probabilities.entries()) {
    sum += p;
    if (p > 0 && sum > u) return id;
  }
  return probabilities.findLastIndex((p) => p > 0);
}

export function softmax(scores: readonly number[]): number[] {
  const best = scores.reduce((a, b) => Math.max(a, b), -Infinity);
  const weights = scores.map((x) => Math.exp(x - best));
  const sum = weights.reduce((a, b) => a + b, 0);
  return weights.map((w) => w / sum);
}

/** Numbers in [0, 1), the same in each run. */
function numbers(seed: number): () => number {
  let i = 0;
  return () => uniform(seed, 0xfeed, i++);
}

/** Seeded logits of roughly normal spread; with `ties` they come in steps of 1/2. */
export function randomLogits(size: number, spread: number, seed: number, ties = false): Float32Array {
  const next = numbers(seed);
  return Float32Array.from({ length: size }, () => {
    const x = (next() + next() + next() + next() - 2) * Math.sqrt(3) * spread;
    return ties ? Math.round(x * 2) / 2 : x;
  });
}

/** A bit set of the ids below `size` that pass. */
export function bitSet(size: number, passes: (id: number) => boolean): Uint32Array {
  const mask = new Uint32Array(Math.ceil(size / 32));
  for (let id = 0; id < size; id++) if (passes(id)) mask[id >>> 5]! |= 1 << (id & 31);
  return mask;
}
