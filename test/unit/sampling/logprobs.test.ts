import { describe, expect, it } from 'vitest';
import { logprobsOf, MAX_TOP_LOGPROBS } from '../../../src/sampling/logprobs.ts';
import { NumericError } from '../../../src/util/errors.ts';
import { randomLogits, softmax } from './naive.ts';

describe('logprobsOf', () => {
  it('agrees with a full sort of an f64 softmax', () => {
    for (const size of [1, 2, 5, 21, 1000]) {
      for (const ties of [false, true]) {
        const logits = randomLogits(size, 4, size, ties);
        const probabilities = softmax(Array.from(logits));
        const order = probabilities.map((_p, id) => id).toSorted((a, b) => logits[b]! - logits[a]! || a - b);
        for (const top of [0, 1, 5, MAX_TOP_LOGPROBS]) {
          const chosen = size >> 1;
          const got = logprobsOf(logits, chosen, top);
          expect(got.id).toBe(chosen);
          expect(got.logprob).toBeCloseTo(Math.log(probabilities[chosen]!), 12);
          expect(got.top.map((t) => t.id)).toEqual(order.slice(0, top));
          for (const t of got.top) expect(t.logprob).toBeCloseTo(Math.log(probabilities[t.id]!), 12);
        }
      }
    }
  });

  it.each([
    ['equal logits', [2, 2, 2, 2], 3, -Math.log(4)],
    ['large logits, without overflow', [3e38, 3e38], 1, -Math.log(2)],
    ['large negative logits', [-1e30, -1e30], 0, -Math.log(2)],
    ['a token far below the best', [0, -1000], 1, -1000],
    ['a token that is ruled out', [0, -Infinity], 1, -Infinity],
    ['the only token with a probability', [-Infinity, 5], 1, 0],
  ])('is exact for %s', (_what, logits, chosen, expected) => {
    expect(logprobsOf(Float32Array.from(logits), chosen, 0)).toEqual({ id: chosen, logprob: expected, top: [] });
  });

  it('lists no more alternatives than have a probability, and than the limit', () => {
    expect(logprobsOf(Float32Array.of(-Infinity, 1, -Infinity, 1), 0, 4).top.map((t) => t.id)).toEqual([1, 3]);
    expect(logprobsOf(new Float32Array(100), 0, 50).top).toHaveLength(MAX_TOP_LOGPROBS);
  });

  it('refuses NaN, and ids outside the vocabulary', () => {
    expect(() => logprobsOf(Float32Array.of(1, NaN), 0, 1)).toThrow(NumericError);
    for (const id of [-1, 2, 0.5]) expect(() => logprobsOf(Float32Array.of(1, 2), id, 1)).toThrow(/internal: .*vocabulary of 2/);
  });
});
