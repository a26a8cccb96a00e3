import { describe, expect, it } from 'vitest';
import { uniform } from '../../../src/sampling/random.ts';
import { sample } from '../../../src/sampling/sampler.ts';
import { NumericError, RequestError } from '../../../src/util/errors.ts';
import { bitSet, naiveDraw, naiveProbabilities, randomLogits } from './naive.ts';

const off = { minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };
const greedy = { ...off, temperature: 0, topK: 0, topP: 1, seed: 0 };
const plain = { ...off, temperature: 1, topK: 0, topP: 1, seed: 5 };
const here = { key: 0, position: 0 };

/** Ids that come out over many positions. */
function drawn(logits: Float32Array, params: typeof plain, count: number, mask?: Uint32Array): number[] {
  const counts = Array.from(logits, () => 0);
  for (let position = 0; position < count; position++) counts[sample(logits, params, { key: 9, position }, mask)]!++;
  return counts;
}

const support = (counts: readonly number[]) => counts.flatMap((n, id) => (n > 0 ? [id] : []));

describe('sample, greedy', () => {
  it.each([
    ['the largest', [1, 3, 2], 1],
    ['the lowest id among equals', [1, 3, 3, 3], 1],
    ['the first of -0 and 0', [-1, -0, 0], 1],
    ['a finite logit among -Infinity', [-Infinity, -3e38, -Infinity], 1],
    ['the only token', [-5], 0],
  ])('takes %s', (_what, logits, id) => {
    expect(sample(Float32Array.from(logits), greedy, here)).toBe(id);
  });

  it('takes the largest of random logits of odd sizes', () => {
    for (const size of [1, 2, 31, 33, 1023, 1025, 5001]) {
      const logits = randomLogits(size, 3, size, true);
      expect(sample(logits, greedy, here)).toBe(logits.indexOf(Math.max(...logits)));
    }
  });

  it('takes the largest allowed token', () => {
    const logits = randomLogits(101, 3, 1);
    const mask = bitSet(101, (id) => id % 3 === 1);
    const expected = Array.from(logits, (x, id) => [x, id] as const)
      .filter(([, id]) => id % 3 === 1)
      .toSorted((a, b) => b[0] - a[0]);
    expect(sample(logits, greedy, here, mask)).toBe(expected[0]![1]);
    expect(
      sample(
        logits,
        greedy,
        here,
        bitSet(101, (id) => id === 100),
      ),
    ).toBe(100);
  });

  it('does not allow ids beyond the end of the mask', () => {
    expect(
      sample(
        Float32Array.from({ length: 100 }, (_x, id) => id),
        greedy,
        here,
        new Uint32Array(1).fill(0xffffffff),
      ),
    ).toBe(31);
  });
});

describe('sample against a full sort in f64', () => {
  const temperatures = [1, 0.3, 2.5, 100, 1e-6];
  const filters = [
    [0, 1],
    [1, 1],
    [5, 1],
    [50, 1],
    [100_000, 1],
    [0, 0.9],
    [0, 0.5],
    [0, 1e-12],
    [0, 0.999999],
    [40, 0.8],
    [3, 0.1],
    [400, 0.99],
  ] as const;

  it.each(temperatures)('gives the same ids at temperature %d for every filter, size, tie and mask', (temperature) => {
    let compared = 0;
    for (const [topK, topP] of filters) {
      for (const [n, size] of [1, 2, 33, 257, 2049].entries()) {
        for (const ties of [false, true]) {
          const params = { ...off, temperature, topK, topP, seed: 77 };
          const logits = randomLogits(size, 3, 10 * n + 1, ties);
          if (size > 4) for (let id = 0; id < size; id += 7) logits[id] = -Infinity;
          const allowed = (id: number) => n % 2 === 0 || id % 5 !== 2;
          const probabilities = naiveProbabilities(logits, params, allowed);
          const mask = n % 2 === 0 ? undefined : bitSet(size, allowed);
          for (let position = 0; position < 20; position++) {
            const expected = naiveDraw(probabilities, uniform(77, 4, position));
            expect(sample(logits, params, { key: 4, position }, mask), `k ${topK} p ${topP} size ${size} ties ${ties}`).toBe(expected);
            compared++;
          }
        }
      }
    }
    expect(compared).toBe(filters.length * 5 * 2 * 20);
  });
});

describe('sample, filters', () => {
  // The first two rows are those of the tests of Hugging Face's TopPLogitsWarper (p 0.8); 0.5 + 0.3 rounds to either side of 0.8, hence 0.79.
  it.each([
    ['top-p, probabilities out of order', [0.3, 0.1, 0.1, 0.5], { topP: 0.79 }, [0, 3]],
    ['top-p, equal probabilities', [0.15, 0.3, 0.3, 0.25], { topP: 0.8 }, [1, 2, 3]],
    ['top-p that cuts between equals: the lower ids', [0.2, 0.2, 0.2, 0.2, 0.2], { topP: 0.5 }, [0, 1, 2]],
    ['top-p reached exactly by equals', [0.25, 0.25, 0.25, 0.25], { topP: 0.5 }, [0, 1]],
    ['tiny top-p: one token', [0.3, 0.1, 0.1, 0.5], { topP: 1e-300 }, [3]],
    ['top-k', [0.3, 0.05, 0.15, 0.5], { topK: 2 }, [0, 3]],
    ['top-k keeps all that equal the k-th', [0.3, 0.3, 0.3, 0.1], { topK: 2 }, [0, 1, 2]],
    ['top-k above the vocabulary', [0.3, 0.1, 0.1, 0.5], { topK: Number.MAX_SAFE_INTEGER }, [0, 1, 2, 3]],
    ['top-p counts shares of what top-k left', [0.4, 0.2, 0.2, 0.2], { topK: 1, topP: 0.5 }, [0]],
    ['top-p after top-k', [0.4, 0.3, 0.2, 0.1], { topK: 2, topP: 0.55 }, [0]],
    ['top-k of what the mask left', [0.1, 0.2, 0.3, 0.4], { topK: 1, mask: [0, 1] }, [1]],
    ['top-p of what the mask left', [0.1, 0.3, 0.3, 0.3], { topP: 0.7, mask: [0, 1] }, [1]],
  ])('%s', (_what, probabilities, { mask, ...filter }: { topK?: number; topP?: number; mask?: number[] }, expected) => {
    const logits = Float32Array.from(probabilities, Math.log);
    const bits = mask && bitSet(logits.length, (id) => mask.includes(id));
    expect(support(drawn(logits, { ...plain, ...filter }, 300, bits))).toEqual(expected);
  });

  it('keeps all tokens, not few, where rounding leaves a top-p near 1 out of reach', () => {
    for (let size = 3000; size < 5000; size += 100) {
      const logits = Float32Array.from({ length: size }, (_, id) => 1 + ((id * 7919) % size) / (5 * size));
      const some = Array.from({ length: 40 }, (_, key) => sample(logits, { ...plain, topP: 1 - 2 ** -53 }, { key, position: 1 }));
      expect(some.filter((id) => logits[id]! < 1.1).length, `${size} tokens`).toBeGreaterThan(5);
    }
  });

  it('applies the temperature before top-p', () => {
    const logits = Float32Array.from([0.6, 0.2, 0.1, 0.1], Math.log);
    expect(support(drawn(logits, { ...plain, topP: 0.65 }, 300))).toEqual([0, 1]);
    expect(support(drawn(logits, { ...plain, topP: 0.65, temperature: 0.5 }, 300))).toEqual([0]);
  });

  it('takes the largest at a temperature of 1e-6, and at one that overflows the division', () => {
    const logits = randomLogits(999, 3, 2);
    const best = sample(logits, greedy, here);
    for (const temperature of [1e-6, 5e-324]) expect(support(drawn(logits, { ...plain, temperature, topP: 0.9 }, 50))).toEqual([best]);
  });
});

describe('sample, frequencies', () => {
  const tilted = randomLogits(12, 1.5, 3);
  it.each([
    ['unfiltered', plain],
    ['at temperature 0.7', { ...plain, temperature: 0.7 }],
    ['top-k 6', { ...plain, topK: 6 }],
    ['top-p 0.8', { ...plain, topP: 0.8 }],
  ])('agree with the probabilities, %s', (_what, params) => {
    const count = 20_000;
    const counts = drawn(tilted, params, count);
    const probabilities = naiveProbabilities(tilted, params);
    // A token that was filtered out and drawn all the same adds infinity.
    const terms = probabilities.map((p, id) => (counts[id] === 0 && p === 0 ? 0 : (counts[id]! - p * count) ** 2 / (p * count)));
    const chiSquare = terms.reduce((a, b) => a + b, 0);
    // At most 11 degrees of freedom: 0.1 % above 31.3.
    expect(chiSquare).toBeLessThan(31.3);
  });

  it('cover every block of a large vocabulary', () => {
    const counts = drawn(new Float32Array(5000), plain, 5000);
    for (let from = 0; from < 5000; from += 500) {
      const share = counts.slice(from, from + 500).reduce((a, b) => a + b, 0);
      // 500 expected, standard deviation 21.
      expect(Math.abs(share - 500)).toBeLessThan(85);
    }
  });
});

describe('sample, determinism', () => {
  it('depends on seed, key and position only, in any order of rows', () => {
    const rows = Array.from({ length: 16 }, (_x, key) => ({ key, logits: randomLogits(300, 2, 40 + key) }));
    const run = (order: typeof rows) => new Map(order.map(({ key, logits }) => [key, sample(logits, plain, { key, position: 3 })]));
    const forward = run(rows);
    const backward = run(rows.toReversed());
    for (const { key } of rows) expect(backward.get(key)).toBe(forward.get(key));
    const same = rows.map(({ key }) => sample(rows[0]!.logits, plain, { key, position: 3 }));
    expect(new Set(same).size).toBeGreaterThan(8);
  });

  it('leaves the logits alone', () => {
    const logits = randomLogits(300, 2, 1);
    const copy = logits.slice();
    sample(
      logits,
      { ...plain, topK: 20, topP: 0.9 },
      here,
      bitSet(300, (id) => id % 2 === 0),
    );
    expect(logits).toEqual(copy);
  });
});

describe('sample, numbers that are none', () => {
  const bad = (at: number, value: number) => {
    const logits = randomLogits(100, 2, 1);
    logits[at] = value;
    return logits;
  };

  it.each([
    ['NaN first', bad(0, NaN), undefined, NumericError, /logit of token 0 is NaN/],
    ['NaN last', bad(99, NaN), undefined, NumericError, /logit of token 99 is NaN/],
    ['NaN in a token that is not allowed', bad(50, NaN), bitSet(100, (id) => id < 10), NumericError, /logit of token 50 is NaN/],
    ['+Infinity', bad(7, Infinity), undefined, NumericError, /logit of token 7 is Infinity/],
    ['all -Infinity', new Float32Array(9).fill(-Infinity), undefined, NumericError, /all 9 logits are -Infinity/],
    ['a mask that allows nothing', bad(0, 0), new Uint32Array(4), RequestError, /the mask allows none of the 100 tokens/],
    ['a mask without words', bad(0, 0), new Uint32Array(0), RequestError, /the mask allows none of the 100 tokens/],
    ['a mask of impossible tokens', bad(3, -Infinity), bitSet(100, (id) => id === 3), RequestError, /allows 1 of 100 .* probability 0/],
  ])('refuses %s', (_what, logits, mask, type, message) => {
    for (const params of [greedy, { ...plain, topK: 5, topP: 0.5 }]) {
      const attempt = () => sample(logits, params, here, mask);
      expect(attempt).toThrow(type);
      expect(attempt).toThrow(message);
    }
  });
});
