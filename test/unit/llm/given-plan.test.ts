import { describe, expect, it } from 'vitest';
import { LLM } from '../../../src/llm.ts';
import type { LoadOptions } from '../../../src/llm/load-options.ts';
import type { ExecutionPlan } from '../../../src/index.ts';
import { makePlan } from '../../../src/llm/make-plan.ts';
import { makeFakeDevice } from '../../helpers/fake-device.ts';
import { fixtureFolder, readGolden } from '../../helpers/golden.ts';
import { tinyModel } from '../../helpers/tiny-engine.ts';

const golden = readGolden('opt');
const load = (options: LoadOptions) => LLM.load(fixtureFolder('opt'), { device: 'reference', compute: 'f32', ...options });
const answers = async (llm: LLM) =>
  (await llm.generate(golden.prompts.slice(0, 3), { maxTokens: 4, ignoreEos: true })).map(({ tokenIds }) => tokenIds);

describe('sparse attention', () => {
  const sparse = async (options: LoadOptions) => {
    await using llm = await load(options);
    const results = await llm.generate(golden.prompts.slice(0, 3), { maxTokens: 8, ignoreEos: true, logprobs: 0 });
    return { info: llm.info, plan: llm.plan, logprobs: results.map(({ logprobs }) => logprobs!.map(({ logprob }) => logprob)) };
  };

  it('is about the tokens behind the first one of an answer, and part of what decides the answers', async () => {
    const [dense, whole, tenth] = [await sparse({}), await sparse({ attnSparsity: 1 }), await sparse({ attnSparsity: 0.1 })];
    expect(whole).toEqual(dense);
    expect(tenth.plan).toEqual({ ...dense.plan, attnSparsity: 0.1 });
    expect(tenth.info.fingerprint).toBe(`${dense.info.fingerprint} sparsity 0.1`);
    const firsts = (logprobs: number[][]) => logprobs.map(([first]) => first);
    expect(firsts(tenth.logprobs)).toEqual(firsts(dense.logprobs));
    for (const [i, logprobs] of tenth.logprobs.entries()) expect(logprobs.slice(1)).not.toEqual(dense.logprobs[i]!.slice(1));
  });

  it('is the same in another batch, and with the plan of another run', async () => {
    const one = await sparse({ attnSparsity: 0.3, gpuBatchSize: 1 });
    const all = await sparse({ attnSparsity: 0.3, numGpuBatches: 2, gpuBatchSize: 2 });
    expect(all.logprobs).toEqual(one.logprobs);
    expect((await sparse({ plan: all.plan })).logprobs).toEqual(one.logprobs);
    await expect(load({ plan: all.plan, attnSparsity: 0.2 })).rejects.toThrow('attnSparsity: 0.2 expected');
  });

  it.each([0, 1.1, NaN])('is refused with %s', async (attnSparsity) => {
    await expect(load({ attnSparsity })).rejects.toThrow(`--attn-sparsity: a number in (0, 1] expected, got ${attnSparsity}`);
  });

  it('is refused by devices without it', () => {
    const device = makeFakeDevice({ capabilities: { sparseAttention: false } });
    const parts = { model: tinyModel(), device, weights: { bytes: 0, plan: { layers: [], weights: [], bytes: 0 } } };
    const plan = (attnSparsity: number) => makePlan(parts, { compute: 'f32', attnSparsity, memoryBytes: 1e9 });
    expect(plan(1).attnSparsity).toBe(1);
    expect(() => plan(0.5)).toThrow('--attn-sparsity 0.5: fake has no sparse attention, only 1');
  });
});

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
