import { internalError } from '../util/errors.ts';
import { argmax, isAllowed } from './argmax.ts';
import { minPCut, stronger, topKCut, topPCut } from './filters.ts';
import type { SamplingParams } from './params.ts';
import { hasPenalties, penalised, type TokenCounts } from './penalties.ts';
import { uniform } from './random.ts';
import { BLOCK, blockSums, type Cut, KEEP_ALL, type Row, scaleOf, weightOf } from './weights.ts';

/** Where a token is sampled; with the seed, the whole key of its random number. */
export interface SamplingPlace {
  /** Key of the row, an integer in [0, 2^32). */
  readonly key: number;
  /** Index in the sequence, prompt included, of the token to be sampled. */
  readonly position: number;
}

/** What decides which token is chosen. */
export type ChoiceParams = Pick<
  SamplingParams,
  'temperature' | 'topK' | 'topP' | 'minP' | 'repetitionPenalty' | 'presencePenalty' | 'frequencyPenalty' | 'seed'
>;

/**
 * Chooses the next token: penalties, the mask, then temperature, top-k, top-p and min-p in the order and with the meaning of Hugging Face transformers.
 * Depends on its arguments only, so a row gives the same tokens in any batch. Equal logits are told apart by id, lowest first.
 * @param logits [vocabulary]; not modified. -Infinity rules a token out
 * @param params checked before, see `checkSamplingParams`; temperature 0 takes the most probable token
 * @param mask allowed ids as a bit set (bit id % 32 of word id >> 5), undefined for all
 * @param tokens of the sequence so far; needed where there are penalties
 * @returns an id in [0, vocabulary)
 * @throws {NumericError} when a logit is NaN or +Infinity, allowed or not, or all are -Infinity; says which, the caller knows the row
 * @throws {RequestError} when the mask leaves no token with a probability
 */
export function sample(logits: Float32Array, params: ChoiceParams, place: SamplingPlace, mask?: Uint32Array, tokens?: TokenCounts): number {
  const all = tokens && hasPenalties(params) ? penalised(logits, params, tokens) : logits;
  const bestId = argmax(all, mask);
  const { temperature, topK, topP, minP } = params;
  if (temperature === 0) return bestId;
  const row: Row = { logits: mask ? allowedOnly(all, mask) : all, best: all[bestId]!, scale: scaleOf(temperature) };
  let cut = topK === 0 ? KEEP_ALL : topKCut(row, topK);
  if (topP < 1) cut = topPCut(row, cut, topP);
  if (minP > 0) cut = stronger(cut, minPCut(row, temperature, minP));
  return draw(row, cut, uniform(params.seed, place.key, place.position));
}

const allowedOnly = (logits: Float32Array, mask: Uint32Array): Float32Array => logits.map((x, id) => (isAllowed(mask, id) ? x : -Infinity));

/** Inverse of the cumulative distribution over the kept ids in rising order, at u in [0, 1). */
function draw(row: Row, cut: Cut, u: number): number {
  const { sums, total } = blockSums(row, cut);
  let left = u * total;
  let last = -1;
  for (let block = 0; block < sums.length; block++) {
    if (sums[block] === 0) continue;
    last = block;
    if (left < sums[block]!) break;
    left -= sums[block]!;
  }
  return drawInBlock(row, cut, last, left);
}

/** The id of a block at which the sum of weights passes `left`; the last with a weight if rounding leaves it out of reach. */
function drawInBlock(row: Row, cut: Cut, block: number, left: number): number {
  const end = Math.min(row.logits.length, (block + 1) * BLOCK);
  let sum = 0;
  let last = -1;
  for (let id = block * BLOCK; id < end; id++) {
    const weight = weightOf(row, cut, id);
    if (weight === 0) continue;
    last = id;
    sum += weight;
    if (sum > left) return id;
  }
  if (last < 0) throw internalError(`no weight in block ${block} of ${row.logits.length} logits`);
  return last;
}
