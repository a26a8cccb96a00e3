/** Prompts that begin alike, on our kernels: not a bit of any result depends on whether their beginning is computed once or for each. */
import { describe, expect, it } from 'vitest';
import type { SequenceRequest } from '../../src/engine/sequence.ts';
import type { Model } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import { rowSampler } from '../../src/sampling/native-rows.ts';
import type { KvType } from '../../src/tensor/dtype.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { LLM } from '../../src/llm.ts';
import { fixtureFolder, readGolden } from '../helpers/golden.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { randomNumbers } from '../helpers/tensors.ts';
import { collect, makeRequest, openTiny, resultsOf, type TinyOptions, type PlainResult } from '../helpers/tiny-engine.ts';

const SIZES = { vocab_size: 40, hidden_size: 128, num_attention_heads: 2, max_position_embeddings: 320 };
const MODELS: Readonly<Record<string, () => Model>> = {
  opt: () => buildModel({ model_type: 'opt', ...SIZES, ffn_dim: 64, num_hidden_layers: 2 }, 'opt'),
  'gemma3, whose windows move': () =>
    buildModel(
      {
        model_type: 'gemma3_text',
        ...SIZES,
        intermediate_size: 64,
        num_hidden_layers: 3,
        num_key_value_heads: 1,
        head_dim: 64,
        sliding_window: 30,
        sliding_window_pattern: 3,
        query_pre_attn_scalar: 64,
      },
      'gemma3',
    ),
};
const TYPES: readonly KvType[] = ['f32', 'f16', 'q8_0', 'g4'];
const ROWS = 28;

/** Rows with random beginnings of random ones before them, from nothing to all of them, and any length up to four pages. */
function randomRequests(seed: number): SequenceRequest[] {
  const numbers = randomNumbers(seed, 60_000).values();
  const below = (n: number): number => Math.floor(((numbers.next().value! + 1) / 2) * n);
  const prompts: number[][] = [];
  return Array.from({ length: ROWS }, (_, id) => {
    const earlier = prompts[below(prompts.length)] ?? [];
    const beginning = earlier.slice(0, below(3) === 0 ? earlier.length : below(earlier.length + 1));
    const length = Math.max(1, Math.min(250 - beginning.length, below(below(4) === 0 ? 180 : 25)));
    const tokens = [...beginning, ...Array.from({ length }, () => below(40))].slice(
      0,
      below(5) === 0 ? Math.max(1, beginning.length) : undefined,
    );
    prompts.push(tokens);
    const scores = below(6) === 0;
    return makeRequest(id, {
      tokens,
      maxTokens: scores ? below(2) * 3 : 1 + below(40),
      logprobs: 2,
      ...(scores && { promptLogprobs: 1 }),
      ...(below(2) === 0 && { temperature: 1, topP: 0.9, repetitionPenalty: 1.2 }),
    });
  });
}

interface Ran {
  readonly results: Map<number, PlainResult>;
  readonly computed: number;
  readonly shared: number;
}

describe.each(availableKernels())('on kernels %s', (_isa, kernels) => {
  const run = async (requests: readonly SequenceRequest[], options: TinyOptions): Promise<Ran> => {
    await using device = openNativeDevice(kernels, 2);
    await using tiny = openTiny({ device, takeRows: rowSampler(device), ...options });
    const outcomes = await collect(tiny.engine.run(requests));
    expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
    const sum = (of: (outcome: (typeof outcomes)[number]) => number): number => outcomes.reduce((total, outcome) => total + of(outcome), 0);
    return {
      results: resultsOf(outcomes),
      computed: sum(({ promptTokens }) => promptTokens),
      shared: sum(({ sharedTokens }) => sharedTokens),
    };
  };

  describe.each(Object.entries(MODELS))('%s', (_name, model) => {
    it.each([...TYPES.map((kvType) => ({ kvType, attnSparsity: 1 })), { kvType: 'f16' as const, attnSparsity: 0.2 }])(
      'with a cache of $kvType and sparsity $attnSparsity',
      async ({ kvType, attnSparsity }) => {
        const seed = 1 + TYPES.indexOf(kvType);
        const requests = randomRequests(seed);
        const total = requests.reduce((sum, { tokens }) => sum + tokens.length, 0);
        const pages = model().layers.some(({ window }) => window) ? [60, 60] : [60];
        const options = { model: model(), kvType, attnSparsity, kvPages: pages, batchTokens: 300 };
        const wanted = await run(requests, { ...options, gpuBatchSize: 8, sharePrefixes: false });
        expect([wanted.results.size, wanted.computed, wanted.shared]).toEqual([ROWS, total, 0]);
        for (const sizes of [
          { gpuBatchSize: 8 },
          { gpuBatchSize: 16, batchTokens: 24 },
          { gpuBatchSize: 3, numGpuBatches: 3, batchTokens: 70 },
          { gpuBatchSize: 6, kvPages: pages.map(() => 9) },
        ]) {
          const got = await run(requests, { ...options, ...sizes });
          expect(got.results, `seed ${seed}, ${JSON.stringify(sizes)}`).toEqual(wanted.results);
          expect(got.computed + got.shared).toBe(total);
          expect(got.shared).toBeGreaterThan(total / 8);
        }
      },
    );
  });
});

it.each(['gemma3', 'opt', 'phi3-longrope'] as const)('%s: rows of a published architecture get the same answers', async (name) => {
  const [first, ...others] = readGolden(name).prompts.filter((prompt) => prompt.length >= 12);
  const prompts = [
    first!,
    ...others.flatMap((prompt) => [
      [...first!, ...prompt],
      [...first!.slice(0, 10), ...prompt],
    ]),
  ];
  const ask = async (sharePrefixes: boolean): Promise<unknown> => {
    await using llm = await LLM.load(fixtureFolder(name), { sharePrefixes, gpuBatchSize: 4 });
    return await llm.generate(prompts, { maxTokens: 16, logprobs: 3, ignoreEos: true });
  };
  expect(await ask(true)).toEqual(await ask(false));
});
