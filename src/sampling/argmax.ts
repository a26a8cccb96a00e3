import { NumericError, RequestError } from '../util/errors.ts';

/**
 * The allowed token with the largest logit, the lowest id among equals; one pass, nothing allocated. Looks at every logit, so that a
 * NaN is found wherever it is.
 * @param logits [vocabulary]
 * @param mask allowed ids as a bit set; ids beyond its end are not allowed; undefined allows all
 * @throws {NumericError} when a logit is NaN or +Infinity, or all are -Infinity
 * @throws {RequestError} when the mask allows no token, or only tokens that the model rules out
 */
export function argmax(logits: Float32Array, mask?: Uint32Array): number {
  let best = -Infinity;
  let bestId = -1;
  for (let id = 0; id < logits.length; id++) {
    const x = logits[id]!;
    // NaN compares false, so it goes on to the check below like a new maximum does.
    if (x <= best) continue;
    if (!(x < Infinity)) throw new NumericError(`logit of token ${id} is ${x}`, { token: id, logit: x });
    if (!isAllowed(mask, id)) continue;
    best = x;
    bestId = id;
  }
  if (bestId < 0) throw nothingLeft(logits, mask);
  return bestId;
}

/** Whether the bit set has the id; undefined has all. */
export function isAllowed(mask: Uint32Array | undefined, id: number): boolean {
  return mask === undefined || (id >>> 5 < mask.length && ((mask[id >>> 5]! >>> (id & 31)) & 1) === 1);
}

function nothingLeft(logits: Float32Array, mask: Uint32Array | undefined): Error {
  const vocabulary = logits.length;
  if (logits.every((x) => x === -Infinity)) {
    return new NumericError(`all ${vocabulary} logits are -Infinity`, { vocabulary });
  }
  const allowed = logits.reduce((count, _x, id) => count + (isAllowed(mask, id) ? 1 : 0), 0);
  const problem =
    allowed === 0
      ? `the mask allows none of the ${vocabulary} tokens`
      : `the mask allows ${allowed} of ${vocabulary} tokens, and the model gives each of them probability 0`;
  return new RequestError(`${problem}; allow an end-of-sequence token to end the completion`, { vocabulary, allowed });
}
