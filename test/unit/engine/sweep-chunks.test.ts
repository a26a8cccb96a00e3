import { describe, expect, it } from 'vitest';
import { buildModel } from '../../../src/models/registry.ts';
import { collect, makeRequest, openTiny, resultsOf, type TinyOptions, tinyModel } from '../../helpers/tiny-engine.ts';

const slidingModel = () =>
  buildModel(
    {
      model_type: 'gemma2',
      num_hidden_layers: 2,
      hidden_size: 16,
      intermediate_size: 24,
      num_attention_heads: 2,
      num_key_value_heads: 1,
      head_dim: 8,
      vocab_size: 40,
      sliding_window: 70,
      max_position_embeddings: 400,
    },
    'sliding',
  );

function* requests() {
  for (let id = 0; id < 9; id++)
    yield makeRequest(id, { tokens: 5 + 37 * (id % 5), maxTokens: 6, logprobs: 1, ...(id % 3 === 0 && { promptLogprobs: 1 }) });
}

async function run(options: TinyOptions) {
  await using tiny = openTiny({ gpuBatchSize: 3, numGpuBatches: 2, kvPages: [60], sharePrefixes: false, ...options });
  const outcomes = await collect(tiny.engine.run(requests()));
  expect(outcomes.flatMap(({ finished }) => finished)).toHaveLength(9);
  return { sweeps: outcomes.length, results: [...resultsOf(outcomes)].sort(([a], [b]) => a - b) };
}

describe('several chunks of a micro-batch in one sweep', () => {
  it.each(['full', 'sliding'] as const)('give the same results in fewer sweeps, %s attention', async (attention) => {
    const options = attention === 'full' ? { model: tinyModel() } : { model: slidingModel(), kvPages: [60, 60] };
    const one = await run({ ...options, batchTokens: 16, sweepChunks: 1 });
    for (const sweepChunks of [2, 3, 20]) {
      const many = await run({ ...options, batchTokens: 16, sweepChunks });
      expect(many.results).toEqual(one.results);
      expect(many.sweeps).toBeLessThan(one.sweeps);
    }
  });

  it('compute a block of long prompts in one sweep', async () => {
    await using tiny = openTiny({ gpuBatchSize: 4, batchTokens: 16, sweepChunks: 40, kvPages: [60], sharePrefixes: false });
    const long = Array.from({ length: 4 }, (_, id) => makeRequest(id, { tokens: 150, maxTokens: 1 }));
    const outcomes = await collect(tiny.engine.run(long));
    expect(outcomes.map(({ promptTokens, finished }) => [promptTokens, finished.length])).toEqual([[600, 4]]);
  });
});
