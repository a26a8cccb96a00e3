/** Wherever weights rest, not a bit of any result differs: the truth is the run that keeps all of them in memory. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import type { Model } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import type { GenerationRequest, GenerationResult } from '../../src/requests.ts';
import { rowSampler } from '../../src/sampling/native-rows.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { convertFolder } from '../helpers/converted-model.ts';
import { type FixtureModel, fixtureFolder, readGolden } from '../helpers/golden.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { makeRequest, openTiny, runAll } from '../helpers/tiny-engine.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const SHARES = [0, 20, 50, 80, 100];
const BLOCKS = [
  [1, 1],
  [4, 2],
  [64, 1],
] as const;

const BUNDLED_PROMPTS = [
  [5, 6, 7, 8],
  [900, 901],
  [2, 77, 500, 1999, 4, 4],
  [44, 300, 12],
  [5, 6, 7, 9, 10],
];
const params = { maxTokens: 2, ignoreEos: true, logprobs: 4, promptLogprobs: 2 };
const asRequests = (prompts: readonly (readonly number[])[]): GenerationRequest[] =>
  prompts.map((prompt, row) => ({ prompt, params: row % 2 === 0 ? params : { ...params, temperature: 1, seed: 3 } }));

async function ask(folder: string, prompts: readonly (readonly number[])[], options: LoadOptions): Promise<GenerationResult[]> {
  await using llm = await LLM.load(folder, { threads: 2, ...options });
  const [gpu = 0, memory = 0] = options.percent ?? [0, 100];
  expect(llm.plan.weights.slots > 0).toBe(gpu + memory < 100);
  return await llm.generate(asRequests(prompts));
}

const weightsIn = (memory: number): readonly number[] => [0, memory, 0, 100, 0, 100];

/** Shares and blocks whose results are not those of the run that keeps everything in memory. */
async function differences(folder: string, prompts: readonly (readonly number[])[], options: LoadOptions): Promise<string[]> {
  const wanted = await ask(folder, prompts, options);
  expect(wanted.every(({ tokenIds, logprobs }) => tokenIds.length === logprobs!.length && tokenIds.length > 0)).toBe(true);
  const found: string[] = [];
  for (const [i, share] of SHARES.entries())
    for (const [gpuBatchSize, numGpuBatches] of share === 20 ? BLOCKS : [BLOCKS[i % BLOCKS.length]!]) {
      const overlap = gpuBatchSize > 1;
      const got = await ask(folder, prompts, { ...options, gpuBatchSize, numGpuBatches, percent: weightsIn(share), overlap });
      if (!isDeepStrictEqual(got, wanted)) found.push(`${share} percent, ${gpuBatchSize} x ${numGpuBatches}, overlap ${overlap}`);
    }
  return found;
}

describe('every share of the weights in memory gives the same bits', () => {
  it.each([
    ['computed in f32', { compute: 'f32' }],
    ['with a cache of g4', { kvType: 'g4' }],
  ] as const)('for the bundled model, %s', async (_name, options) => {
    expect(await differences(BUNDLED_MODEL, BUNDLED_PROMPTS, options)).toEqual([]);
  });

  // Converted once: to work out blocks anew for every sweep takes longer than all the rest.
  it.each([
    ['q8', {}],
    ['q4', {}],
    ['q4', { kvType: 'g4', compute: 'f32' }],
  ] as const)('for the bundled model as a file of %s, %o', async (type, options) => {
    await using temporary = await makeTemporaryFolder();
    const file = await convertFolder(BUNDLED_MODEL, temporary.path, { type });
    expect(await differences(file, BUNDLED_PROMPTS, options)).toEqual([]);
  });

  it.each(['llama', 'qwen3', 'gemma3', 'mixtral'] satisfies FixtureModel[])('for %s', async (model) => {
    const prompts = readGolden(model).prompts.slice(0, 5);
    expect(await differences(fixtureFolder(model), prompts, {})).toEqual([]);
    // Widened on its way to the device.
    expect(await differences(fixtureFolder(model), prompts, { dtype: 'q8', compute: 'f32' })).toEqual([]);
  });
});

/** Of FlexGen's suite 1b3_test, whose blocks have 16 rows. */
const PLACEMENTS = [
  ['all on the GPU', [100, 0, 100, 0, 100, 0]],
  ['weights in RAM', [0, 100, 100, 0, 100, 0]],
  ['cache in RAM', [100, 0, 0, 100, 100, 0]],
  ['both in RAM', [0, 100, 0, 100, 100, 0]],
  ['weights on disk', [0, 0, 100, 0, 100, 0]],
  ['weights half and half', [50, 50, 100, 0, 100, 0]],
  ['weights half on the GPU, half on disk', [50, 0, 100, 0, 100, 0]],
  ['cache half and half', [100, 0, 50, 50, 100, 0]],
] as const;

describe("FlexGen's placements", () => {
  const all = ask(BUNDLED_MODEL, BUNDLED_PROMPTS, {});

  it.each(PLACEMENTS)('%s: the same bits, in one block and in two', async (_name, percent) => {
    for (const numGpuBatches of [1, 2])
      expect(await ask(BUNDLED_MODEL, BUNDLED_PROMPTS, { percent, gpuBatchSize: 16, numGpuBatches })).toEqual(await all);
  });
});

const SIZES = { vocab_size: 100, hidden_size: 128, num_attention_heads: 2, max_position_embeddings: 256 };
const MODELS: Readonly<Record<string, () => Model>> = {
  opt: () => buildModel({ model_type: 'opt', ...SIZES, ffn_dim: 96, num_hidden_layers: 5 }, 'opt'),
  mixtral: () =>
    buildModel(
      {
        model_type: 'mixtral',
        ...SIZES,
        intermediate_size: 64,
        num_hidden_layers: 3,
        num_key_value_heads: 1,
        num_local_experts: 4,
        num_experts_per_tok: 2,
      },
      'mixtral',
    ),
};

/** Shares and slots, by the type of the cache. */
const RINGS = {
  f16: [
    [0, 2],
    [0.5, 4],
  ],
  g4: [
    [0.2, 3],
    [0.8, 2],
  ],
} as const;

describe.each(availableKernels())('on kernels %s', (_isa, kernels) => {
  it.each(Object.entries(MODELS))('%s gives the same bits for every share and every ring', async (_name, model) => {
    const requests = Array.from({ length: 7 }, (_, id) => makeRequest(id, { tokens: 1 + 3 * id, maxTokens: 3, logprobs: 3 }));
    for (const kvType of ['f16', 'g4'] as const) {
      const run = async (weightShare: number, slots: number, numGpuBatches: number): Promise<unknown> => {
        await using device = openNativeDevice(kernels, 2);
        await using tiny = openTiny({ device, takeRows: rowSampler(device), model: model(), kvType, weightShare, slots, numGpuBatches });
        return await runAll(tiny.engine, requests);
      };
      const wanted = await run(1, 0, 1);
      for (const [share, slots] of RINGS[kvType])
        expect(await run(share, slots, 1 + (slots % 2)), `${share}, ${slots} slots`).toEqual(wanted);
    }
  });
});
