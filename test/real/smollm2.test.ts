import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { ChatMessage, GenerationRequest } from '../../src/requests.ts';
import { readFixtureJson } from '../helpers/golden.ts';

/** See test/fixtures/README.md: 48 greedy tokens each, not stopped at the end of the sequence. */
interface RealGolden {
  readonly prompts: readonly {
    readonly kind: 'completion' | 'chat';
    readonly text: string;
    readonly messages?: readonly ChatMessage[];
    readonly ids: readonly number[];
    readonly greedy: readonly number[];
    readonly greedy_logprobs: readonly number[];
    /** Distance of the two highest logits, for each step. */
    readonly margins: readonly number[];
    readonly prompt_logprobs: readonly (number | null)[];
    readonly decoded: string;
  }[];
}

const file = process.env['FLEXLLMGEN_REAL_MODEL']!;
const { prompts } = readFixtureJson('real/smollm2-135m.json') as RealGolden;
/** From the first step with a smaller margin on, another order of summation may choose another token. */
const SAFE_MARGIN = 0.05;
/** Of float32 against float32. */
const LOGPROB_TOLERANCE = 1e-3;
const PARAMS = { maxTokens: 48, ignoreEos: true, logprobs: 0, promptLogprobs: 0 };

const safeSteps = (margins: readonly number[]): number => {
  const first = margins.findIndex((margin) => margin < SAFE_MARGIN);
  return first < 0 ? margins.length : first;
};

describe.each([1, 64])('SmolLM2 135M, %i rows at a time', (gpuBatchSize) => {
  it('encodes, generates and scores as transformers does', async () => {
    await using llm = await LLM.load(file, { compute: 'f32', gpuBatchSize });
    const requests = prompts.map(({ messages, text }): GenerationRequest => ({ prompt: messages ? { messages } : text, params: PARAMS }));
    const results = await llm.generate(requests);
    expect(results).toHaveLength(prompts.length);
    for (const [i, { promptTokenIds, tokenIds, logprobs, promptLogprobs, text }] of results.entries()) {
      const golden = prompts[i]!;
      const steps = safeSteps(golden.margins);
      expect(promptTokenIds, `ids of prompt ${i}`).toEqual(golden.ids);
      expect(tokenIds.slice(0, steps), `completion ${i}`).toEqual(golden.greedy.slice(0, steps));
      expect([golden.decoded, steps < golden.margins.length ? text : '']).toContain(text);
      const scored = [
        ...logprobs!.slice(0, steps).map((step, at) => step.logprob - golden.greedy_logprobs[at]!),
        ...promptLogprobs!.slice(1).map((step, at) => step!.logprob - golden.prompt_logprobs[at + 1]!),
      ];
      expect(Math.max(...scored.map(Math.abs)), `log-probabilities of prompt ${i}`).toBeLessThan(LOGPROB_TOLERANCE);
    }
  });
});

it('ends a chat at the end of the turn', async () => {
  await using llm = await LLM.load(file);
  const [result] = await llm.generate([{ prompt: { messages: [{ role: 'user', content: 'Say hello.' }] }, params: { maxTokens: 200 } }]);
  expect(result).toMatchObject({ finishReason: 'stop' });
  expect(result!.text).not.toContain('<|im_end|>');
});
