/** Models whose weights do not stay on the GPU: the truth is the run that keeps all of them there. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';
import {
  answersOf,
  BUNDLED_PROMPTS,
  CACHE_PLACEMENTS,
  compareTokens,
  GPU_PLACEMENTS,
  modelsWith,
  VULKAN,
} from '../helpers/gpu-placements.ts';

const folder = gpuLibraryFolder();
if (folder !== undefined) process.env['FLEXLLMGEN_GGML_DIR'] = folder;

const MODELS = modelsWith('llama', 'qwen3', 'gemma3', 'mixtral');

describe.skipIf(folder === undefined).each(MODELS)('on a Vulkan device, %s', (_name, model, prompts) => {
  let wanted: Awaited<ReturnType<typeof answersOf>>;
  beforeAll(async () => {
    wanted = await answersOf(model, prompts, VULKAN);
  });

  it('has all weights on the GPU, if nobody says otherwise', () => {
    const { weights, host, bytes } = wanted.plan;
    expect(weights).toEqual({ share: 1, slots: 0, streamedBytes: 0 });
    expect(host).toMatchObject({ share: 0, uploadedBytes: 0, bytes: { weights: 0 } });
    expect(bytes.staging + bytes.program).toBe(0);
  });

  it('gives the same tokens in two micro-batches', async () => {
    const { results, plan } = await answersOf(model, prompts, { ...VULKAN, gpuBatchSize: 2, numGpuBatches: 2 });
    expect(compareTokens(results, wanted.results)).toBeGreaterThan(prompts.length);
    expect(plan.numGpuBatches).toBe(2);
  });

  it.each(GPU_PLACEMENTS)('gives the same tokens with its weights %s', async (_where, percent, options) => {
    const [gpu, ram] = percent;
    const { results, plan, stats } = await answersOf(model, prompts, { ...VULKAN, ...options, percent });
    expect(compareTokens(results, wanted.results)).toBeGreaterThan(prompts.length);
    expect(plan.weights).toMatchObject({ share: gpu / 100, slots: 3 });
    expect(plan.host!.share).toBe(ram / 100);
    expect(plan.host!.uploadedBytes > 0).toBe(ram > 0);
    expect(plan.weights.streamedBytes > 0).toBe(gpu + ram < 100);
    expect(plan.bytes.weights).toBeLessThan(wanted.plan.bytes.weights);
    expect(stats.peakGpuBytes).toBeLessThanOrEqual(plan.bytes.total);
    const uploads = stats.lanes.find(({ lane }) => lane === 'upload')!;
    expect(uploads.bytes).toBeGreaterThan(stats.sweeps * (plan.host!.uploadedBytes + plan.weights.streamedBytes) * 0.9);
  });
});

describe.skipIf(folder === undefined).each(MODELS)('beside a Vulkan device, the cache of %s', (_name, model, prompts) => {
  let wanted: Awaited<ReturnType<typeof answersOf>>;
  beforeAll(async () => {
    wanted = await answersOf(model, prompts, VULKAN);
  });

  it.each(CACHE_PLACEMENTS)('gives the same tokens %s', async (_where, percent, options) => {
    const { results, plan, stats } = await answersOf(model, prompts, { ...VULKAN, threads: 2, ...options, percent });
    expect(compareTokens(results, wanted.results)).toBeGreaterThan(prompts.length);
    expect(plan.bytes.kv + plan.bytes.staged).toBe(0);
    expect(plan.host!.bytes.kv).toBeGreaterThan(0);
    expect(plan.kvDisk !== null).toBe(percent[2] + percent[3] < 100);
    expect(stats.peakGpuBytes).toBeLessThanOrEqual(plan.bytes.total);
    expect(stats.lanes.find(({ lane }) => lane === 'download')!.bytes).toBeGreaterThan(0);
  });
});

describe.skipIf(folder === undefined)('the cache beside a Vulkan device', () => {
  const beside: LoadOptions = { ...VULKAN, threads: 2, percent: [100, 0, 0, 100, 100, 0] };

  it('may have fewer bits, and sparse attention, in RAM and on disk, as on the processor alone', async () => {
    for (const options of [{ kvType: 'g4' }, { kvType: 'q4_0' }, { kvType: 'q8_0' }, { attnSparsity: 0.1 }] as const) {
      const wanted = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { compute: 'f32', kvType: 'f32', ...options });
      for (const ram of [100, 0]) {
        const { results } = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...beside, ...options, percent: [100, 0, 0, ram, 100, 0] });
        expect(compareTokens(results, wanted.results)).toBeGreaterThan(BUNDLED_PROMPTS.length);
      }
    }
  });

  it('is planned in RAM: a plan runs again, and too little RAM is refused', async () => {
    const { plan, results } = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...beside, memoryBytes: 2e9 });
    expect(plan.host!.bytes.total).toBeLessThanOrEqual(2e9);
    const again = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...VULKAN, threads: 2, plan, memoryBytes: 2e9 });
    expect(again.results).toEqual(results);
    const noRoom = answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...beside, memoryBytes: 100e6 });
    await expect(noRoom).rejects.toThrow(/^the KV cache of \d+ positions takes .* of RAM beside the GPU, .* left for it there/);
  });
});

describe.skipIf(folder === undefined)('on a Vulkan device with too little memory, by itself', () => {
  it('keeps a part of the weights there, and the rest in RAM if that is allowed, else on disk', async () => {
    const wanted = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, VULKAN);
    const { bytes } = wanted.plan;
    const options = { ...VULKAN, numGpuBatches: 1, vramBytes: bytes.total - bytes.kv + bytes.kv / 4 - bytes.weights / 2 };
    for (const memoryBytes of [undefined, 1e12]) {
      const { plan, results, stats } = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...options, ...(memoryBytes && { memoryBytes }) });
      expect(compareTokens(results, wanted.results)).toBeGreaterThan(BUNDLED_PROMPTS.length);
      expect(plan.weights.slots).toBeGreaterThanOrEqual(2);
      expect(stats.peakGpuBytes).toBeLessThanOrEqual(options.vramBytes);
      // RAM is this device's own memory, so nothing is put there unasked.
      expect(plan.host!.share).toBeCloseTo(memoryBytes ? 1 - plan.weights.share : 0);
      expect(plan.weights.streamedBytes > 0).toBe(memoryBytes === undefined);
    }
  });
});
