import { describe, expect, it } from 'vitest';
import { hasPenalties, penalised, TokenCounts } from '../../../src/sampling/penalties.ts';
import { uniform } from '../../../src/sampling/random.ts';
import { sample } from '../../../src/sampling/sampler.ts';
import { bitSet, naiveDraw, naivePenalised, naiveProbabilities, randomLogits } from './naive.ts';

const none = { repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };

function countsOf(prompt: readonly number[], generated: readonly number[]): TokenCounts {
  const counts = new TokenCounts(Int32Array.from(prompt));
  for (const id of generated) counts.add(id);
  return counts;
}

/** Ids below `size` with repetitions. */
const someIds = (size: number, count: number, seed: number): number[] =>
  Array.from({ length: count }, (_, i) => Math.floor(uniform(seed, 1, i) ** 2 * size));

describe('TokenCounts', () => {
  it('has every token once, in rising order, and how often it was generated', () => {
    const counts = countsOf([7, 3, 3, 9], [3, 1, 11, 3, 1, 8]);
    expect([...counts.ids]).toEqual([1, 3, 7, 8, 9, 11]);
    expect([...counts.counts]).toEqual([2, 2, 0, 1, 0, 1]);
  });

  it('grows to any length', () => {
    const generated = someIds(500, 3000, 4);
    const counts = countsOf([], generated);
    expect([...counts.ids]).toEqual([...new Set(generated)].toSorted((a, b) => a - b));
    expect([...counts.counts]).toEqual([...counts.ids].map((id) => generated.filter((one) => one === id).length));
  });
});

describe('penalised', () => {
  it.each([
    ['repetition, of prompt and completion', { ...none, repetitionPenalty: 2 }, [0.5, 1, -4, -6, 0]],
    ['presence, of the completion', { ...none, presencePenalty: 0.5 }, [1, 1.5, -2, -3.5, 0]],
    ['frequency, for each time', { ...none, frequencyPenalty: 0.5 }, [1, 1, -2, -3.5, 0]],
    ['both after repetition', { repetitionPenalty: 2, presencePenalty: 1, frequencyPenalty: 0.25 }, [0.5, -0.5, -4, -7.25, 0]],
    ['negative ones, which repeat', { ...none, presencePenalty: -1, frequencyPenalty: -1 }, [1, 5, -2, -1, 0]],
  ])('%s', (_what, params, expected) => {
    expect(hasPenalties(params)).toBe(true);
    const logits = Float32Array.of(1, 2, -2, -3, 0);
    expect([...penalised(logits, params, countsOf([0, 2], [1, 1, 3]))]).toEqual(expected);
    expect([...logits]).toEqual([1, 2, -2, -3, 0]);
  });

  it('leaves -Infinity, and ids that did not occur, alone', () => {
    const logits = Float32Array.of(-Infinity, 4);
    expect([...penalised(logits, { repetitionPenalty: 3, presencePenalty: -2, frequencyPenalty: -2 }, countsOf([0], [0]))]).toEqual([
      ...logits,
    ]);
    expect(hasPenalties(none)).toBe(false);
  });
});

describe('sample with penalties and min-p, against a full sort in f64', () => {
  it.each([
    { minP: 0.1 },
    { minP: 1 },
    { minP: 0.02, topP: 0.9 },
    { minP: 0.3, topK: 20, topP: 0.95, temperature: 1.7 },
    { repetitionPenalty: 1.3 },
    { repetitionPenalty: 0.7, temperature: 0 },
    { presencePenalty: 1.5, frequencyPenalty: 0.3, temperature: 0 },
    { presencePenalty: -0.5, frequencyPenalty: 0.2, repetitionPenalty: 1.1, topK: 30, topP: 0.8, minP: 0.05 },
  ])('%o', (given) => {
    const params = { temperature: 1, topK: 0, topP: 1, minP: 0, seed: 3, ...none, ...given };
    for (const [n, size] of [2, 33, 257, 2049].entries()) {
      for (const ties of [false, true]) {
        const logits = randomLogits(size, 3, 20 + n, ties);
        const [prompt, generated] = [someIds(size, size >> 2, 1), someIds(size, size >> 2, 2)];
        const allowed = (id: number): boolean => n % 2 === 0 || id % 5 !== 2;
        const scores = naivePenalised(logits, params, prompt, generated);
        const mask = n % 2 === 0 ? undefined : bitSet(size, allowed);
        const candidates = Array.from(scores, (x, id) => (allowed(id) ? x : -Infinity));
        const greedy = candidates.indexOf(Math.max(...candidates));
        const probabilities = params.temperature === 0 ? [] : naiveProbabilities(scores, params, allowed);
        for (let position = 0; position < 20; position++) {
          const expected = params.temperature === 0 ? greedy : naiveDraw(probabilities, uniform(3, 4, position));
          const got = sample(logits, params, { key: 4, position }, mask, countsOf(prompt, generated));
          expect(got, `size ${size} ties ${ties}`).toBe(expected);
        }
      }
    }
  });

  it.each([
    ['min-p', [0.5, 0.3, 0.15, 0.05], { minP: 0.25 }, [0, 1, 2]],
    ['min-p of 1: the best, with its equals', [0.2, 0.4, 0.4], { minP: 1 }, [1, 2]],
    ['min-p counts from what is left, not from top-p', [0.4, 0.3, 0.2, 0.1], { minP: 0.6, topP: 0.95 }, [0, 1]],
    ['top-p sums before min-p', [0.4, 0.2, 0.2, 0.2], { minP: 0.01, topP: 0.55 }, [0, 1]],
    ['min-p after the temperature', [0.6, 0.3, 0.1], { minP: 0.3, temperature: 0.5 }, [0]],
  ])('%s', (_what, probabilities, given, expected) => {
    const params = { temperature: 1, topK: 0, topP: 1, seed: 3, ...none, ...given };
    const logits = Float32Array.from(probabilities, Math.log);
    const drawn = Array.from({ length: 300 }, (_, position) => sample(logits, params, { key: 9, position }));
    expect([...new Set(drawn)].toSorted((a, b) => a - b)).toEqual(expected);
  });
});
