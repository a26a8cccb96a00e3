import { internalError } from '../util/errors.ts';
import { argmax } from './argmax.ts';
import type { PositionLogprobs, TokenLogprob } from './params.ts';
import { blockSums, KEEP_ALL, scaleOf } from './weights.ts';

/** Most alternatives that are reported for a token: what common APIs allow. Each costs output in every token of every row. */
export const MAX_TOP_LOGPROBS = 20;

/**
 * Log-probability of a token and of the most probable ones at its position: natural logarithm, temperature 1, no filter, no mask.
 * @param logits [vocabulary]; not modified
 * @param chosen id in [0, vocabulary); its log-probability is -Infinity where the model rules it out
 * @param top number of alternatives, at most MAX_TOP_LOGPROBS; fewer come back when fewer have a probability. Best first, equals by id
 * @throws {NumericError} when a logit is NaN or +Infinity, or all are -Infinity
 */
export function logprobsOf(logits: Float32Array, chosen: number, top: number): PositionLogprobs {
  if (!Number.isInteger(chosen) || chosen < 0 || chosen >= logits.length) {
    throw internalError(`log-probability of token ${chosen} in a vocabulary of ${logits.length}`);
  }
  const best = logits[argmax(logits)]!;
  const { total } = blockSums({ logits, best, scale: scaleOf(1) }, KEEP_ALL);
  return logprobsFrom(logits, chosen, best, total, largest(logits, Math.min(top, MAX_TOP_LOGPROBS)));
}

/**
 * The same when the work is done.
 * @param best largest logit
 * @param sum of exp(logit - best) over the vocabulary
 * @param top ids of the alternatives, best first
 */
export function logprobsFrom(logits: Float32Array, chosen: number, best: number, sum: number, top: readonly number[]): PositionLogprobs {
  const logSum = Math.log(sum);
  // Subtracted one after the other: best + logSum would lose the digits of logSum when the logits are large.
  const at = (id: number): TokenLogprob => ({ id, logprob: logits[id]! - best - logSum });
  return { ...at(chosen), top: top.map(at) };
}

/** Ids of the `count` largest finite logits, largest first, equals by id. Insertion, as count is small and few logits get past the last. */
function largest(logits: Float32Array, count: number): number[] {
  const ids: number[] = [];
  if (count === 0) return ids;
  let smallest = -Infinity;
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!;
    if (x <= smallest) continue;
    let at = ids.length < count ? ids.length : count - 1;
    for (; at > 0 && logits[ids[at - 1]!]! < x; at--) ids[at] = ids[at - 1]!;
    ids[at] = id;
    if (ids.length === count) smallest = logits[ids[count - 1]!]!;
  }
  return ids;
}
