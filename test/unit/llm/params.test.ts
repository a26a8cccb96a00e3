import { describe, expect, it } from 'vitest';
import { DEFAULT_PARAMS, recommendedParams, recommendedStopIds, resolveParams } from '../../../src/llm/params.ts';
import type { GenerationParams } from '../../../src/requests.ts';
import { RequestError } from '../../../src/util/errors.ts';

const OFF = { minP: 0, repetitionPenalty: 1, presencePenalty: 0, frequencyPenalty: 0 };

describe('resolveParams', () => {
  it('completes with the defaults', () => {
    const { stop, ...sampling } = DEFAULT_PARAMS;
    expect(resolveParams({}, {})).toEqual({ sampling, stop });
    expect(sampling).toEqual({ temperature: 0, ...OFF, topK: 0, topP: 1, seed: 0, maxTokens: 256, stopTokenIds: [], ignoreEos: false });
  });

  it('prefers the request, then the defaults given', () => {
    const defaults: GenerationParams = { temperature: 0.5, maxTokens: 9, stop: ['x'] };
    const { sampling, stop } = resolveParams({ temperature: 1, stop: [] }, defaults);
    expect([sampling.temperature, sampling.maxTokens, stop]).toEqual([1, 9, []]);
  });

  it('takes undefined for missing', () => {
    const none = { temperature: undefined, maxTokens: undefined, stop: undefined } as unknown as GenerationParams;
    expect(resolveParams(none, { maxTokens: 3 }).sampling).toMatchObject({ temperature: 0, maxTokens: 3 });
    expect(resolveParams({}, none)).toEqual(resolveParams({}, {}));
  });

  it.each<[GenerationParams, RegExp]>([
    [{ temperature: -1 }, /temperature must be/],
    [{ maxTokens: 0 }, /maxTokens must be an integer of at least 1 \(0 only with promptLogprobs\)/],
    [{ stop: [''] }, /stop: strings that are not empty expected, got ""/],
    [{ stop: [7 as unknown as string] }, /stop: strings that are not empty expected, got 7/],
    [{ stop: Array.from({ length: 17 }, (_, i) => `s${i}`) }, /stop: at most 16 strings expected, got 17/],
    [{ stop: 'END' as unknown as string[] }, /stop: a list of strings expected, got "END"/],
  ])('refuses %j', (params, message) => {
    expect(() => resolveParams(params, {})).toThrow(message);
    expect(() => resolveParams(params, {})).toThrow(RequestError);
  });
});

describe('generation_config.json', () => {
  it.each<[string, Record<string, unknown> | undefined, GenerationParams]>([
    ['none', undefined, {}],
    ['max_new_tokens', { max_new_tokens: 72, do_sample: false, temperature: 0.6, top_k: 50, top_p: 0.9 }, { maxTokens: 72 }],
    ['sampling', { do_sample: true, temperature: 0.6, top_k: 50, top_p: 0.9 }, { temperature: 0.6, topK: 50, topP: 0.9 }],
    ['min-p', { do_sample: true, min_p: 0.05 }, { temperature: 1, minP: 0.05 }],
    ['a repetition penalty, which greedy answers have too', { repetition_penalty: 1.05, min_p: 0.1 }, { repetitionPenalty: 1.05 }],
    ['sampling without temperature', { do_sample: true }, { temperature: 1 }],
    ['values that are none', { max_new_tokens: '72', do_sample: true, temperature: null, top_k: -1, top_p: null }, { temperature: 1 }],
    ['a length of 0', { max_new_tokens: 0 }, {}],
  ])('recommends: %s', (_what, config, params) => expect(recommendedParams(config)).toEqual(params));

  it.each<[unknown, number[]]>([
    [2, [2]],
    [
      [2, 50118],
      [2, 50118],
    ],
    [null, []],
    [undefined, []],
    [['2', 1.5, 3], [3]],
  ])('ends at %j', (eos, ids) => expect(recommendedStopIds({ eos_token_id: eos })).toEqual(ids));
});
