/** Weights in other places on ggml's CPU, which streams them as GPUs do. A file of its own: kernels are chosen once a process. */
import { beforeAll, describe, expect, it } from 'vitest';
import { buildModel } from '../../src/models/registry.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { fixtureFolder, readGolden } from '../helpers/golden.ts';
import { answersOf, compareTokens, GPU_PLACEMENTS } from '../helpers/gpu-placements.ts';
import { makeRequest, openTiny, runAll } from '../helpers/tiny-engine.ts';

process.env['FLEXLLMGEN_ISA'] = 'ggml';

const CPU: LoadOptions = { compute: 'f32', kvType: 'f32', threads: 1 };
const MODELS = [
  [
    'the bundled model',
    BUNDLED_MODEL,
    [
      [5, 6, 7, 8],
      [900, 901],
      [2, 77, 500, 1999, 4, 4],
    ],
  ],
  ...(['llama', 'qwen3', 'gemma3', 'mixtral'] as const).map(
    (name) => [name, fixtureFolder(name), readGolden(name).prompts.slice(0, 3)] as const,
  ),
] as const;

describe.each(MODELS)("on ggml's CPU, %s", (_name, model, prompts) => {
  let wanted: Awaited<ReturnType<typeof answersOf>>;
  beforeAll(async () => {
    wanted = await answersOf(model, prompts, CPU);
  });

  it.each(GPU_PLACEMENTS)('gives the same tokens with its weights %s', async (_where, percent, options) => {
    const notices: string[] = [];
    const { results, plan } = await answersOf(model, prompts, { ...CPU, ...options, percent, onNotice: (notice) => notices.push(notice) });
    expect(compareTokens(results, wanted.results)).toBeGreaterThan(prompts.length);
    // There is no GPU, so both shares are in RAM.
    const share = (percent[0] + percent[1]) / 100;
    expect(plan.weights).toMatchObject({ share, slots: share < 1 ? 3 : 0 });
    expect(plan.host).toBeUndefined();
    expect(notices.join()).toMatch(/there is no GPU/);
  });
});

/** On the device, in RAM beside it as with a GPU, and slots for the rest. */
const TIERS = [
  [0, 1, 2],
  [0.5, 0.5, 3],
  [0.2, 0.4, 3],
  [0, 0.3, 4],
] as const;

const SIZES = { vocab_size: 100, hidden_size: 128, num_attention_heads: 2, max_position_embeddings: 256 };

it.each([
  ['opt', { model_type: 'opt', ...SIZES, ffn_dim: 96, num_hidden_layers: 5 }],
  [
    'mixtral',
    { model_type: 'mixtral', ...SIZES, intermediate_size: 64, num_hidden_layers: 3, num_key_value_heads: 1, num_local_experts: 4 },
  ],
])("%s in three tiers beside ggml's CPU gives the same tokens", async (name, config) => {
  const requests = Array.from({ length: 7 }, (_, id) => makeRequest(id, { tokens: 1 + 3 * id, maxTokens: 3, logprobs: 3 }));
  const run = async (weightShare: number, heldShare: number, slots: number): Promise<Map<number, readonly number[]>> => {
    await using device = await openGgmlDevice({ backend: 'cpu', threads: 1, exact: true });
    const options = { device, model: buildModel(config, name), weightShare, heldShare, slots, numGpuBatches: 1 + (slots % 2) };
    await using tiny = openTiny({ ...options, reserveAll: true });
    const results = await runAll(tiny.engine, requests);
    return new Map([...results].map(([id, { generated }]) => [id, generated]));
  };
  const wanted = await run(1, 0, 0);
  expect(wanted.size).toBe(requests.length);
  for (const [resident, held, slots] of TIERS) expect(await run(resident, held, slots), `${resident}, ${held}`).toEqual(wanted);
});
