import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import {
  copyAsTextPart,
  copyWithNewConfig,
  expectGolden,
  fixtureFolder,
  FIXTURE_MODELS,
  goldenRequests,
  readGolden,
} from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const F32: LoadOptions = { compute: 'f32', threads: 1 };

describe.each(FIXTURE_MODELS)('%s', (name) => {
  const golden = readGolden(name);

  it.each([
    ['alone', 'config.json', { gpuBatchSize: 1 }],
    ['3 rows at a time, as others finish', 'config.json', { gpuBatchSize: 3 }],
    ['2 batches of 3 rows', 'config.json', { gpuBatchSize: 3, numGpuBatches: 2 }],
    ['all in one ragged batch', 'config.v5.json', {}],
    ['2 batches of 2 rows', 'config.v5.json', { gpuBatchSize: 2, numGpuBatches: 2 }],
    ['3 rows at a time on 2 threads', 'config.json', { gpuBatchSize: 3, threads: 2 }],
  ])('own kernels give the golden ids and log-probabilities: %s, %s', async (_what, config, options) => {
    await using temporary = await makeTemporaryFolder();
    const folder = config === 'config.json' ? fixtureFolder(name) : await copyWithNewConfig(name, path.join(temporary.path, name));
    await using llm = await LLM.load(folder, { ...F32, ...options });
    const results = await llm.generate(goldenRequests(golden));
    for (const [i, result] of results.entries()) expectGolden(result, golden, i);
    expect(results).toHaveLength(golden.prompts.length);
  });

  it('the reference device gives the golden ids and log-probabilities', async () => {
    await using llm = await LLM.load(fixtureFolder(name), { device: 'reference', compute: 'f32', gpuBatchSize: 2 });
    const prompts = [0, 1, 2, 3];
    const results = await llm.generate(goldenRequests({ prompts: prompts.map((i) => golden.prompts[i]!) }));
    expect(results).toHaveLength(prompts.length);
    for (const [i, result] of results.entries()) expectGolden(result, golden, prompts[i]!);
  });

  // The rounding can choose another expert where two are close.
  const f16Tolerance = name === 'mixtral' || name.endsWith('_moe') ? 0.25 : 0.05;
  it(`a cache in f16 changes log-probabilities by less than ${f16Tolerance} while ids agree`, async () => {
    await using llm = await LLM.load(fixtureFolder(name), { ...F32, kvType: 'f16' });
    const results = await llm.generate(goldenRequests(golden));
    for (const [i, { tokenIds, logprobs }] of results.entries()) {
      const wanted = golden.greedy[i]!;
      const agreed = tokenIds.findIndex((id, at) => id !== wanted[at]);
      const errors = golden.greedy_logprobs[i]!.slice(0, agreed < 0 ? undefined : agreed).map((value, at) =>
        Math.abs(logprobs![at]!.logprob - value),
      );
      expect(Math.max(0, ...errors), `prompt ${i}`).toBeLessThan(f16Tolerance);
      expect(agreed < 0 || agreed > 3, `prompt ${i} differs from token ${agreed} on`).toBe(true);
    }
  });
});

it.each([
  ['in one chunk', {}],
  ['in the middle of others', { gpuBatchSize: 2 }],
])('phi3-longrope goes on beyond its original context as if the prompt were as long: %s', async (_what, options) => {
  await using llm = await LLM.load(fixtureFolder('phi3-longrope'), { ...F32, ...options });
  const params = { maxTokens: 60, ignoreEos: true, logprobs: 0 };
  const prompts = readGolden('phi3-longrope').prompts.slice(0, 4);
  const results = await llm.generate(prompts, params);
  for (const [i, { tokenIds, logprobs }] of results.entries()) {
    const known = 41 - prompts[i]!.length; // with these, the sequence is longer than 40 for the first time
    const text = [...prompts[i]!, ...tokenIds.slice(0, known)];
    const [rest] = await llm.generate([text], { ...params, maxTokens: 60 - known });
    expect(tokenIds.slice(known)).toEqual(rest!.tokenIds);
    for (const [at, { logprob }] of rest!.logprobs!.entries()) expect(logprobs![known + at]!.logprob).toBeCloseTo(logprob, 4);
  }
});

it('gemma3 gives the golden ids as the text part of a model with images', async () => {
  await using temporary = await makeTemporaryFolder();
  const golden = readGolden('gemma3');
  await using llm = await LLM.load(await copyAsTextPart('gemma3', path.join(temporary.path, 'model'), 'gemma3'), F32);
  const results = await llm.generate(goldenRequests(golden));
  expect(results).toHaveLength(golden.prompts.length);
  for (const [i, result] of results.entries()) expectGolden(result, golden, i);
});

it.each(['opt', 'llama'] as const)('text in, text out: %s', async (name) => {
  const { texts = [], prompts } = readGolden(name);
  await using llm = await LLM.load(fixtureFolder(name), F32);
  const results = await llm.generate(
    texts.map(({ text }) => text),
    { maxTokens: 24, ignoreEos: true },
  );
  expect(texts.length).toBeGreaterThan(0);
  expect(results.map(({ text }) => text)).toEqual(texts.map(({ completion }) => completion));
  expect(results.map(({ promptTokenIds }) => promptTokenIds)).toEqual(texts.map(({ prompt }) => prompts[prompt]));
});
