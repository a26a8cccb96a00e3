import { describe, expect, it } from 'vitest';
import { LLM, type LoadOptions } from '../../../src/llm.ts';
import type { ExecutionPlan } from '../../../src/index.ts';
import { fixtureFolder, readGolden } from '../../helpers/golden.ts';

const golden = readGolden('opt');
const load = (options: LoadOptions) => LLM.load(fixtureFolder('opt'), { device: 'reference', compute: 'f32', ...options });
const answers = async (llm: LLM) =>
  (await llm.generate(golden.prompts.slice(0, 3), { maxTokens: 4, ignoreEos: true })).map(({ tokenIds }) => tokenIds);

describe('LLM.load with a plan', () => {
  it('runs with it, and gives the same answers', async () => {
    await using made = await load({ gpuBatchSize: 2, numGpuBatches: 2, kvType: 'f16' });
    const plan = JSON.parse(JSON.stringify(made.plan)) as ExecutionPlan;
    await using given = await load({ plan });
    expect(given.plan).toEqual(made.plan);
    expect(given.info).toEqual(made.info);
    expect(await answers(given)).toEqual(await answers(made));
  });

  it('refuses what is none, and what is not its own', async () => {
    await using made = await load({});
    const { plan } = made;
    await expect(load({ plan: {} as ExecutionPlan })).rejects.toThrow('plan: no plan: weights: an object expected');
    await expect(load({ plan: { ...plan, kvPages: [1] } })).rejects.toThrow(/bytes\.kv: \d+ expected/);
    await expect(load({ plan, gpuBatchSize: 3 })).rejects.toThrow('gpuBatchSize: 3 expected');
    await expect(load({ plan, memoryBytes: 1e6 })).rejects.toThrow(/may be used/);
    await expect(LLM.load(fixtureFolder('llama'), { device: 'reference', compute: 'f32', plan })).rejects.toThrow(
      /expected for this model/,
    );
    await expect(load({ cachePositions: 0 })).rejects.toThrow('cachePositions: a positive integer expected');
  });

  it('says how large the model is', async () => {
    await using made = await load({});
    const blocks = 2 * (4 * (64 * 64 + 64) + 2 * 64 * 160 + 160 + 64 + 4 * 64);
    const parameters = 640 * 64 + 258 * 64 + blocks + 2 * 64;
    expect(made.shape).toEqual({ layers: 2, hiddenSize: 64, kvColumns: 64, vocabularySize: 640, parameters, endTokenIds: [2] });
  });
});
