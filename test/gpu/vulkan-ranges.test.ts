/** Several GPUs: Mesa's driver on the processor counts as often as it is named. The truth is the run on one of them. */
import { beforeAll, describe, expect, it } from 'vitest';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';
import { answersOf, BUNDLED_PROMPTS, compareTokens, type Percent, modelsWith, VULKAN } from '../helpers/gpu-placements.ts';

const folder = gpuLibraryFolder();
if (folder !== undefined) process.env['FLEXLLMGEN_GGML_DIR'] = folder;
process.env['GGML_VK_VISIBLE_DEVICES'] = '0,0,0';

const MODELS = modelsWith('gemma3', 'mixtral');

const PLACEMENTS: readonly (readonly [string, Percent | undefined, LoadOptions])[] = [
  ['with all weights on them', undefined, {}],
  ['three of them, two micro-batches', undefined, { gpus: 3, numGpuBatches: 2, gpuBatchSize: 3 }],
  ['with weights in three tiers', [20, 40, 100, 0, 100, 0], { numGpuBatches: 2, gpuBatchSize: 3 }],
  ['with all weights on disk', [0, 0, 100, 0, 100, 0], {}],
];

describe.skipIf(folder === undefined).each(MODELS)('on several Vulkan devices, %s', (_name, model, prompts) => {
  let wanted: Awaited<ReturnType<typeof answersOf>>;
  beforeAll(async () => {
    wanted = await answersOf(model, prompts, { ...VULKAN, gpus: 1 });
  });

  it.each(PLACEMENTS)('gives the same answers %s', async (_where, percent, options) => {
    const { results, plan, stats } = await answersOf(model, prompts, { ...VULKAN, gpus: 2, ...options, ...(percent && { percent }) });
    expect(compareTokens(results, wanted.results)).toBeGreaterThan(prompts.length);
    expect(stats.peakGpuBytes).toBeLessThanOrEqual(plan.bytes.total);
    // A model of two layers leaves a third one without work.
    expect(plan.bytes.hidden / plan.numGpuBatches / plan.sweepChunks).toBeGreaterThanOrEqual(2 * wanted.plan.bytes.hidden);
    expect(stats.lanes.find(({ lane }) => lane === 'download')!.bytes).toBeGreaterThan(0);
  });
});

describe.skipIf(folder === undefined)('several Vulkan devices', () => {
  it('have the cache beside them', async () => {
    const wanted = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...VULKAN, gpus: 1, threads: 2, percent: [100, 0, 0, 100, 100, 0] });
    const { results } = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, {
      ...VULKAN,
      gpus: 2,
      threads: 2,
      percent: [100, 0, 0, 100, 100, 0],
    });
    expect(results).toEqual(wanted.results);
  });

  it('hold each what `vramBytes` leaves them, and a plan runs again', async () => {
    const whole = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...VULKAN, gpus: 2 });
    const { bytes } = whole.plan;
    const vramBytes = (bytes.total - bytes.kv + bytes.kv / 4 - bytes.weights / 3) / 2;
    const options = { ...VULKAN, gpus: 2, numGpuBatches: 1, vramBytes: Math.round(vramBytes) };
    const { plan, results, stats } = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, options);
    expect(compareTokens(results, whole.results)).toBeGreaterThan(BUNDLED_PROMPTS.length);
    expect(plan.weights.share).toBeLessThan(1);
    expect(stats.peakGpuBytes).toBeLessThanOrEqual(2 * vramBytes);
    const again = await answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...options, plan });
    expect(again.results).toEqual(results);
    await expect(answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...options, gpus: 3, plan })).rejects.toThrow(/^plan: /);
  });

  it('are refused what does not fit', async () => {
    const refused = answersOf(BUNDLED_MODEL, BUNDLED_PROMPTS, { ...VULKAN, gpus: 2, vramBytes: 20e6 });
    await expect(refused).rejects.toThrow(/GPU/);
  });
});
