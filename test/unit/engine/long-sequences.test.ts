import { describe, expect, it } from 'vitest';
import { buildModel } from '../../../src/models/registry.ts';
import { collect, makeRequest, openTiny, resultsOf, runAll } from '../../helpers/tiny-engine.ts';

const sizes = {
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 32,
  num_attention_heads: 2,
  num_key_value_heads: 1,
};

/** One layer that sees everything, two that see 70 positions. */
const slidingModel = () =>
  buildModel(
    {
      model_type: 'qwen2',
      ...sizes,
      num_hidden_layers: 3,
      max_position_embeddings: 512,
      use_sliding_window: true,
      sliding_window: 70,
      max_window_layers: 1,
    },
    'config.json',
  );

describe('layers with a sliding window', () => {
  it('generate in few pages what scoring the whole text at once says', async () => {
    const prompts = [150, 9, 64].map((tokens, id) => makeRequest(id, { tokens, maxTokens: 120, logprobs: 0 }));
    // At most ceil((69 + 32) / 64) + 1 = 3 pages of the window for each of three rows; all positions would take 5, 3 and 3.
    await using tiny = openTiny({ model: slidingModel(), batchTokens: 32, kvPages: [11, 9] });
    const generated = await runAll(tiny.engine, prompts);
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);

    await using whole = openTiny({ model: slidingModel(), batchTokens: 512, kvPages: [20, 20] });
    const texts = prompts.map(({ id, tokens }) => [...tokens, ...generated.get(id)!.generated]);
    const scored = await runAll(
      whole.engine,
      texts.map((tokens, id) => makeRequest(id, { tokens, maxTokens: 0, promptLogprobs: 1 })),
    );
    for (const { id, tokens } of prompts) {
      const wanted = scored
        .get(id)!
        .promptLogprobs!.slice(tokens.length)
        .map((entry) => entry!);
      const got = generated.get(id)!.logprobs!;
      expect(got.map((entry) => entry.id)).toEqual(wanted.map((entry) => entry.top[0]!.id));
      for (const [i, entry] of got.entries()) expect(entry.logprob).toBeCloseTo(wanted[i]!.logprob, 4);
    }
    expect(new Set([...generated.values()].flatMap((result) => result.generated)).size).toBeGreaterThan(3); // the model says something
  });

  it('refuses a row for which the pages of one group are too few', async () => {
    await using tiny = openTiny({ model: slidingModel(), batchTokens: 32, kvPages: [8, 2] });
    expect(() => tiny.engine.check(makeRequest(0, { tokens: 100 }), 28)).not.toThrow();
    expect(() => tiny.engine.check(makeRequest(0, { tokens: 100 }), 29)).toThrow('the row needs 3 pages of KV cache, there are 2');
  });
});

/** Keys change for all positions beyond 100; every layer sees 70. */
const longModel = () =>
  buildModel(
    {
      model_type: 'phi3',
      ...sizes,
      num_hidden_layers: 2,
      sliding_window: 70,
      max_position_embeddings: 512,
      original_max_position_embeddings: 100,
      rope_scaling: { type: 'longrope', short_factor: [1, 1.5, 2, 2.5], long_factor: [4, 5, 6, 7] },
    },
    'config.json',
  );

describe('sequences that outgrow the original context', () => {
  it('are computed again from their beginning, in chunks, and score nothing twice', async () => {
    const prompts = [100, 60, 9, 101, 200].map((tokens, id) => makeRequest(id, { tokens, maxTokens: 110, logprobs: 0, promptLogprobs: 0 }));
    await using tiny = openTiny({ model: longModel(), batchTokens: 32, gpuBatchSize: 3, kvPages: [9] });
    const outcomes = await collect(tiny.engine.run(prompts));
    const results = resultsOf(outcomes);
    expect(outcomes.reduce((sum, { promptTokens }) => sum + promptTokens, 0)).toBe(470);
    expect(tiny.cache.availablePages).toBe(9);
    for (const { id, tokens } of prompts) {
      const { generated, logprobs, promptLogprobs } = results.get(id)!;
      expect([generated.length, logprobs!.length, promptLogprobs!.length]).toEqual([110, 110, tokens.length]);
      // From the token behind the original context on, as if all before had been the prompt.
      const known = Math.max(0, 101 - tokens.length);
      const text = [...tokens, ...generated.slice(0, known)];
      await using whole = openTiny({ model: longModel(), batchTokens: 512, kvPages: [8] });
      const rest = await runAll(whole.engine, [makeRequest(id, { tokens: text, maxTokens: 110 - known, logprobs: 0 })]);
      expect(generated.slice(known)).toEqual(rest.get(id)!.generated);
      for (const [i, { logprob }] of rest.get(id)!.logprobs!.entries()) expect(logprobs![known + i]!.logprob).toBeCloseTo(logprob, 4);
    }
  });
});
