/** Where weights rest changes no token on ggml's devices, as far as rounding decides none. */
import { expect } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { type FixtureModel, fixtureFolder, readGolden } from './golden.ts';
import type { GenerationResult, RunStats } from '../../src/requests.ts';

export const VULKAN: LoadOptions = { device: 'vulkan', compute: 'f32', kvType: 'f32', threads: 1 };

export const BUNDLED_PROMPTS = [
  [5, 6, 7, 8],
  [900, 901],
  [2, 77, 500, 1999, 4, 4],
];

/** The bundled model and these fixtures: what each is called, where it is, and prompts. */
export const modelsWith = (...fixtures: readonly FixtureModel[]) => [
  ['the bundled model', BUNDLED_MODEL, BUNDLED_PROMPTS] as const,
  ...fixtures.map((name) => [name, fixtureFolder(name), readGolden(name).prompts.slice(0, 3)] as const),
];

/** FlexGen's six numbers. */
export type Percent = readonly [number, number, number, number, number, number];

/** Percent of the weights on the GPU and in RAM. */
const weightsAt = (gpu: number, ram: number): Percent => [gpu, ram, 100, 0, 100, 0];

export const GPU_PLACEMENTS: readonly (readonly [string, Percent, LoadOptions])[] = [
  ['all in RAM', weightsAt(0, 100), {}],
  ['all on disk', weightsAt(0, 0), {}],
  ['half on the GPU, half in RAM', weightsAt(50, 50), {}],
  ['in three tiers', weightsAt(20, 40), {}],
  ['in three tiers, two micro-batches', weightsAt(20, 40), { numGpuBatches: 2, gpuBatchSize: 3 }],
  ['in three tiers, without overlap', weightsAt(20, 40), { overlap: false }],
];

/** The cache beside the GPU, and some of the weights as well. */
export const CACHE_PLACEMENTS: readonly (readonly [string, Percent, LoadOptions])[] = [
  ['in RAM', [100, 0, 0, 100, 100, 0], { gpuBatchSize: 16 }],
  ['in RAM, one micro-batch', [100, 0, 0, 100, 100, 0], { numGpuBatches: 1 }],
  ['in RAM with all weights', [0, 100, 0, 100, 100, 0], { gpuBatchSize: 16 }],
  ['in RAM with weights in three tiers', [20, 40, 0, 100, 100, 0], { numGpuBatches: 2, gpuBatchSize: 3 }],
  ['half on the GPU as far as flags go', [100, 0, 50, 50, 100, 0], { numGpuBatches: 3, gpuBatchSize: 2 }],
  ['on disk', [100, 0, 0, 0, 100, 0], { numGpuBatches: 2, gpuBatchSize: 3 }],
  ['half on disk with all weights on disk', [0, 0, 0, 50, 100, 0], { numGpuBatches: 2, gpuBatchSize: 3 }],
];

/** Below it, sums in another order may decide between two tokens. */
const LEAST_MARGIN = 0.02;
const PARAMS = { maxTokens: 8, ignoreEos: true, logprobs: 2 };

/** Greedy answers in the order of the prompts, the plan that gave them, and what the sweeps said at last. */
export async function answersOf(folder: string, prompts: readonly (readonly number[])[], options: LoadOptions) {
  await using llm = await LLM.load(folder, { gpuBatchSize: 6, ...options });
  const results: GenerationResult[] = [];
  let stats: RunStats | undefined;
  for await (const event of llm.stream(prompts.map((prompt) => ({ prompt, params: PARAMS })))) {
    if (event.type === 'finished') results[event.index] = event.result;
    if (event.type === 'sweep') stats = event.stats;
  }
  return { results, plan: llm.plan, stats: stats! };
}

/** Compares tokens up to the first step that is close in `wanted`. @returns how many were compared */
export function compareTokens(got: readonly GenerationResult[], wanted: readonly GenerationResult[]): number {
  let compared = 0;
  for (const [row, { tokenIds, logprobs }] of wanted.entries()) {
    const close = logprobs!.findIndex(({ top }) => top[0]!.logprob - top[1]!.logprob < LEAST_MARGIN);
    const length = close < 0 ? tokenIds.length : close;
    expect(got[row]!.tokenIds.slice(0, length), `row ${row}`).toEqual(tokenIds.slice(0, length));
    compared += length;
  }
  return compared;
}
