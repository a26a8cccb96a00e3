import { internalError } from '../util/errors.ts';
import { argmax } from './argmax.ts';
import { KEEP_ALL, topKCut, topPCut, weightOf, type Cut, type Row } from './filters.ts';
import type { SamplingParams } from './params.ts';
import { uniform } from './random.ts';

/** Where a token is sampled; with the seed, the whole key of its random number. */
export interface SamplingPlace {
  /** Key of the row, an integer in [0, 2^32). */
  readonly key: number;
  /** Index in the sequence, prompt included, of the token to be sampled. */
  readonly position: number;
}

/** Ids whose weights are summed together, so that the draw need compute only one block's weights again. */
const BLOCK = 1024;

/**
 * Chooses the next token: the mask, then temperature, top-k and top-p in the order and with the meaning of Hugging Face transformers.
 * Depends on its arguments only, so a row gives the same tokens in any batch. Equal logits are told apart by id, lowest first.
 * @param logits [vocabulary]; not modified. -Infinity rules a token out
 * @param params checked before, see `checkSamplingParams`; temperature 0 takes the most probable token
 * @param mask allowed ids as a bit set (bit id % 32 of word id >> 5), undefined for all
 * @returns an id in [0, vocabulary)
 * @throws {NumericError} when a logit is NaN or +Infinity, allowed or not, or all are -Infinity; says which, the caller knows the row
 * @throws {RequestError} when the mask leaves no token with a probability
 */
export function sample(
  logits: Float32Array,
  params: Pick<SamplingParams, 'temperature' | 'topK' | 'topP' | 'seed'>,
  place: SamplingPlace,
  mask?: Uint32Array,
): number {
  const bestId = argmax(logits, mask);
  if (params.temperature === 0) return bestId;
  const row: Row = { logits, mask, best: logits[bestId]!, temperature: params.temperature };
  const topK = params.topK === 0 ? KEEP_ALL : topKCut(row, params.topK);
  const cut = params.topP === 1 ? topK : topPCut(row, topK, params.topP);
  return draw(row, cut, uniform(params.seed, place.key, place.position));
}

/** Inverse of the cumulative distribution over the kept ids in rising order, at u in [0, 1). */
function draw(row: Row, cut: Cut, u: number): number {
  const vocabulary = row.logits.length;
  const sums = new Float64Array(Math.ceil(vocabulary / BLOCK));
  let total = 0;
  for (let block = 0; block < sums.length; block++) {
    const end = Math.min(vocabulary, (block + 1) * BLOCK);
    let sum = 0;
    for (let id = block * BLOCK; id < end; id++) sum += weightOf(row, cut, id);
    sums[block] = sum;
    total += sum;
  }
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
