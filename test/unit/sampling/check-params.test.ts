import { describe, expect, it } from 'vitest';
import { checkSamplingParams } from '../../../src/sampling/check-params.ts';
import type { SamplingParams } from '../../../src/sampling/params.ts';
import { RequestError } from '../../../src/util/errors.ts';

const good: SamplingParams = {
  temperature: 0,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 0,
  maxTokens: 16,
  stopTokenIds: [],
  ignoreEos: false,
};

describe('checkSamplingParams', () => {
  it.each<Partial<SamplingParams>>([
    {},
    { temperature: 100, topK: 1_000_000, topP: 5e-324, seed: 2 ** 32 - 1, stopTokenIds: [0, 2 ** 31 - 1] },
    { minP: 1, repetitionPenalty: 100, presencePenalty: -2, frequencyPenalty: 2 },
    { logprobs: 0, promptLogprobs: 20, maxTokens: 1 },
    { maxTokens: 0, promptLogprobs: 0 },
  ])('accepts %o', (params) => {
    expect(() => checkSamplingParams({ ...good, ...params })).not.toThrow();
  });

  it.each<[Record<string, unknown>, string]>([
    [{ temperature: -0.1 }, 'temperature must be a number in [0, 100] (0 is greedy), got -0.1'],
    [{ temperature: 100.5 }, 'temperature must be a number in [0, 100] (0 is greedy), got 100.5'],
    [{ temperature: NaN }, 'temperature must be a number in [0, 100] (0 is greedy), got NaN'],
    [{ temperature: '0.5' }, "temperature must be a number in [0, 100] (0 is greedy), got '0.5'"],
    [{ temperature: undefined }, 'temperature must be a number in [0, 100] (0 is greedy), got undefined'],
    [{ topK: -1 }, 'topK must be an integer of at least 0 (0 keeps all tokens), got -1'],
    [{ topK: 1.5 }, 'topK must be an integer of at least 0 (0 keeps all tokens), got 1.5'],
    [{ topP: 0 }, 'topP must be a number in (0, 1] (1 keeps all tokens), got 0'],
    [{ topP: 1.01 }, 'topP must be a number in (0, 1] (1 keeps all tokens), got 1.01'],
    [{ minP: -0.1 }, 'minP must be a number in [0, 1] (0 keeps all tokens), got -0.1'],
    [{ minP: 1.1 }, 'minP must be a number in [0, 1] (0 keeps all tokens), got 1.1'],
    [{ repetitionPenalty: 0 }, 'repetitionPenalty must be a number in (0, 100] (1 is none), got 0'],
    [{ repetitionPenalty: 101 }, 'repetitionPenalty must be a number in (0, 100] (1 is none), got 101'],
    [{ presencePenalty: 2.1 }, 'presencePenalty must be a number in [-2, 2] (0 is none), got 2.1'],
    [{ frequencyPenalty: '1' }, "frequencyPenalty must be a number in [-2, 2] (0 is none), got '1'"],
    [{ frequencyPenalty: NaN }, 'frequencyPenalty must be a number in [-2, 2] (0 is none), got NaN'],
    [{ seed: 2 ** 32 }, 'seed must be an integer in [0, 4294967295], got 4294967296'],
    [{ seed: -1 }, 'seed must be an integer in [0, 4294967295], got -1'],
    [{ maxTokens: 0 }, 'maxTokens must be an integer of at least 1 (0 only with promptLogprobs), got 0'],
    [{ maxTokens: -1, promptLogprobs: 1 }, 'maxTokens must be an integer of at least 0, got -1'],
    [{ maxTokens: Infinity }, 'maxTokens must be an integer of at least 1 (0 only with promptLogprobs), got Infinity'],
    [{ logprobs: 21 }, 'logprobs must be an integer in [0, 20], got 21'],
    [{ promptLogprobs: null }, 'promptLogprobs must be an integer in [0, 20], got null'],
    [{ ignoreEos: 'yes' }, "ignoreEos must be true or false, got 'yes'"],
    [{ stopTokenIds: 2 }, 'stopTokenIds must be a list of token ids, got 2'],
    [{ stopTokenIds: [2, 'a'] }, "stopTokenIds[1] must be an integer in [0, 2147483647], got 'a'"],
    [{ stopTokenIds: [-1] }, 'stopTokenIds[0] must be an integer in [0, 2147483647], got -1'],
  ])('refuses %o', (params, message) => {
    const attempt = () => checkSamplingParams({ ...good, ...params });
    expect(attempt).toThrow(RequestError);
    expect(attempt).toThrow(message);
  });

  it('shortens a value that is too long to show', () => {
    const attempt = () => checkSamplingParams({ ...good, topK: 'x'.repeat(1e6) } as unknown as SamplingParams);
    expect(attempt).toThrow(/^topK must be .{60,140}$/);
  });
});
