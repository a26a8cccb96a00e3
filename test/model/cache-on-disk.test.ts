/** Pages of the cache on disk, on our kernels: not a bit differs from a cache in memory, and what fails is said. */
import { isDeepStrictEqual } from 'node:util';
import { describe, expect, it } from 'vitest';
import { diskPageBytes, spillBytes } from '../../src/kv/kv-spill.ts';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { attentionWindows } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import { SpillFile } from '../../src/native/spill-file.ts';
import type { GenerationRequest, GenerationResult } from '../../src/requests.ts';
import { rowSampler } from '../../src/sampling/native-rows.ts';
import { KV_TYPES } from '../../src/tensor/dtype.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { type FixtureModel, fixtureFolder } from '../helpers/golden.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { makeRequest, openTiny, runAll } from '../helpers/tiny-engine.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

/** Rows of up to four pages; the fourth begins like the first. */
const LENGTHS = [150, 64, 3, 140, 190];
const requests = (vocabulary: number): GenerationRequest[] =>
  LENGTHS.map((length, row) => ({
    prompt: Array.from({ length }, (_, i) => 4 + ((i * 7919 + (row === 3 ? 0 : row) * 104_729) % (vocabulary - 4))),
    params: { maxTokens: row === 1 ? 66 : 5, ignoreEos: true, logprobs: 3, ...(row % 2 === 0 && { temperature: 1, seed: 5 }) },
  }));

async function ask(folder: string, vocabulary: number, options: LoadOptions): Promise<GenerationResult[]> {
  await using temporary = await makeTemporaryFolder();
  await using llm = await LLM.load(folder, { threads: 2, offloadFolder: temporary.path, cachePositions: 1280, ...options });
  const [, , gpu = 0, memory = 100, hiddenOnGpu = 0, hidden = 100] = options.percent ?? [];
  expect(llm.plan.kvDisk !== null).toBe(gpu + memory < 100);
  expect(llm.plan.hiddenOnDisk > 0).toBe(hiddenOnGpu + hidden < 100);
  return await llm.generate(requests(vocabulary));
}

/** Of FlexGen's suite 1b3_test those with the cache on disk, and some more. */
const PLACEMENTS: readonly [string, LoadOptions][] = [
  ['cache on disk', { percent: [100, 0, 0, 0, 100, 0] }],
  ['cache on disk, in two batches', { percent: [100, 0, 0, 0, 100, 0], gpuBatchSize: 3, numGpuBatches: 2 }],
  ['half of the cache on disk', { percent: [0, 100, 0, 50, 0, 100], gpuBatchSize: 5 }],
  ['cache and weights on disk', { percent: [0, 0, 0, 0, 0, 100], gpuBatchSize: 2, numGpuBatches: 3 }],
  ['weights in three places, cache in two', { percent: [20, 30, 10, 30, 100, 0], gpuBatchSize: 2, numGpuBatches: 2 }],
  ['hidden states on disk', { percent: [0, 100, 0, 100, 0, 0], gpuBatchSize: 1, numGpuBatches: 5 }],
  ['everything on disk', { percent: [0, 0, 0, 0, 0, 0], gpuBatchSize: 1, numGpuBatches: 5 }],
  ['cache on disk, read in its turn', { percent: [0, 100, 0, 0, 0, 100], overlap: false }],
];

/** Placements whose results are not those of the run that keeps everything in memory. */
async function differences(folder: string, vocabulary: number, options: LoadOptions): Promise<string[]> {
  const wanted = await ask(folder, vocabulary, options);
  const found: string[] = [];
  for (const [name, placed] of PLACEMENTS) {
    const got = await ask(folder, vocabulary, { ...options, ...placed });
    if (!isDeepStrictEqual(got, wanted)) found.push(name);
  }
  return found;
}

describe('the cache on disk gives the same bits', () => {
  it.each([
    ['', {}],
    [', in f32', { compute: 'f32' }],
    [', in 4 bits', { kvType: 'g4' }],
    [', with sparse attention', { attnSparsity: 0.2 }],
  ] as const)('for the bundled model%s', async (_name, options) => {
    expect(await differences(BUNDLED_MODEL, 2000, options)).toEqual([]);
  });

  it.each(['llama', 'qwen3', 'gemma3', 'mixtral'] satisfies FixtureModel[])('for %s', async (model) => {
    expect(await differences(fixtureFolder(model), 150, {})).toEqual([]);
  });
});

const MODEL = {
  model_type: 'gemma3_text',
  vocab_size: 60,
  hidden_size: 128,
  intermediate_size: 64,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 64,
  num_hidden_layers: 3,
  max_position_embeddings: 512,
  sliding_window: 70,
  layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
};

describe.each(availableKernels())('on kernels %s', (_isa, kernels) => {
  it.each(KV_TYPES)('a cache of %s', async (kvType) => {
    const model = buildModel(MODEL, 'sliding');
    const rows = LENGTHS.map((length, id) => makeRequest(id, { tokens: length, maxTokens: 6, logprobs: 2 }));
    const run = async (onDisk: boolean): Promise<unknown> => {
      await using temporary = await makeTemporaryFolder();
      const shape = { windows: attentionWindows(model), columns: 64, type: kvType, chunk: 64 };
      const bytes = spillBytes(shape, [12, 12]);
      await using file = await SpillFile.create(temporary.path, bytes, diskPageBytes(shape) % 4096 === 0);
      await using device = openNativeDevice(kernels, 2);
      const pages = onDisk ? [0, 0] : [40, 40];
      const disk = { kvDisk: { workingPages: [6, 6], bayPages: [12, 12], bytes }, file };
      await using tiny = openTiny({ device, takeRows: rowSampler(device), model, kvType, kvPages: pages, ...(onDisk && disk) });
      return await runAll(tiny.engine, rows);
    };
    expect(await run(true)).toEqual(await run(false));
  });
});

/** A file whose transfers fail from the n-th on. */
function failing(file: SpillFile, what: 'read' | 'write', after: number): SpillFile {
  let left = after;
  return new Proxy(file, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (key === what && left-- <= 0) return () => Promise.reject(new Error(`no more ${what}s`));
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}

describe('the cache on disk', () => {
  it.each([
    ['read', 0],
    ['read', 7],
    ['write', 0],
    ['write', 5],
  ] as const)('says that a %s has failed after %d others, and runs again', async (what, after) => {
    await using temporary = await makeTemporaryFolder();
    await using file = await SpillFile.create(temporary.path, 1 << 20, false);
    const kvDisk = { workingPages: [6], bayPages: [16], bytes: 1 << 20 };
    await using tiny = openTiny({ kvPages: [0], kvDisk, file: failing(file, what, after) });
    const rows = [150, 140].map((tokens, id) => makeRequest(id, { tokens, maxTokens: 60 }));
    await expect(runAll(tiny.engine, rows)).rejects.toThrow(`no more ${what}s`);
    await tiny.cache.spill!.idle();
    // A short row needs no disk.
    expect((await runAll(tiny.engine, [makeRequest(9, { tokens: 5, maxTokens: 3 })])).get(9)!.generated).toHaveLength(3);
  });

  it('has its room set aside, or says that there is none', async () => {
    await using temporary = await makeTemporaryFolder();
    await expect(SpillFile.create(temporary.path, 2 ** 50, true)).rejects.toMatchObject({ code: 'disk-full' });
    await expect(LLM.load(BUNDLED_MODEL, { percent: [0, 100, 0, 0, 0, 100], diskBytes: 1000 })).rejects.toThrow(
      /KV cache of \d+ positions takes .* on disk, 1\.00 kB may be used/,
    );
    await expect(SpillFile.create(`${BUNDLED_MODEL}/config.json`, 1, true)).rejects.toThrow(/could be made in .*config\.json/);
  });
});
