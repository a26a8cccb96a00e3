import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { convertFolder } from '../helpers/converted-model.ts';
import {
  expectGolden,
  FIXTURE_MODELS,
  fixtureFolder,
  type Golden,
  goldenRequests,
  readFixtureJson,
  readGolden,
} from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const F32: LoadOptions = { compute: 'f32', threads: 1 };
/** OPT is no family of llama.cpp; what `query_pre_attn_scalar` of the small Gemmas is, no key can say. */
const NEED_CONFIG = new Set<string>(['opt', 'opt-350m-style', 'galactica', 'opt-bin', 'opt-bin-old', 'gemma2', 'gemma3']);

describe.each(FIXTURE_MODELS)('%s, converted', (name) => {
  const golden = readGolden(name);

  it.each([
    ['alone', { gpuBatchSize: 1 }],
    ['in a ragged batch', {}],
  ])('gives the golden ids and log-probabilities, %s', async (_what, options) => {
    await using temporary = await makeTemporaryFolder();
    await using llm = await LLM.load(await convertFolder(fixtureFolder(name), temporary.path), { ...F32, ...options });
    const results = await llm.generate(goldenRequests(golden));
    expect(results).toHaveLength(golden.prompts.length);
    for (const [i, result] of results.entries()) expectGolden(result, golden, i);
  });

  it.skipIf(NEED_CONFIG.has(name))('gives them with nothing but the keys of GGUF', async () => {
    await using temporary = await makeTemporaryFolder();
    await using llm = await LLM.load(await convertFolder(fixtureFolder(name), temporary.path, { keysOnly: true }), F32);
    const results = await llm.generate(goldenRequests(golden));
    expect(results).toHaveLength(golden.prompts.length);
    for (const [i, result] of results.entries()) expectGolden(result, golden, i);
  });
});

describe.each(['llama-f32', 'llama-q8_0'])('%s.gguf', (name) => {
  const file = `${import.meta.dirname}/../fixtures/gguf/${name}.gguf`;
  const golden = readFixtureJson(`gguf/${name}.golden.json`) as Golden;

  it.each(['cpu', 'reference'] as const)('gives the golden ids and log-probabilities on %s', async (device) => {
    const prompts = device === 'cpu' ? [...golden.prompts.keys()] : [0, 1, 2, 3];
    await using llm = await LLM.load(file, { ...F32, device });
    const results = await llm.generate(goldenRequests({ prompts: prompts.map((i) => golden.prompts[i]!) }));
    expect(results).toHaveLength(prompts.length);
    for (const [i, result] of results.entries()) expectGolden(result, golden, prompts[i]!);
  });
});

it('takes text and gives text', async () => {
  const { texts = [], prompts } = readFixtureJson('gguf/llama-f32.golden.json') as Golden;
  await using llm = await LLM.load(`${import.meta.dirname}/../fixtures/gguf/llama-f32.gguf`, F32);
  const results = await llm.generate(
    texts.map(({ text }) => text),
    { maxTokens: 24, ignoreEos: true },
  );
  expect(texts.length).toBeGreaterThan(0);
  expect(results.map(({ promptTokenIds }) => promptTokenIds)).toEqual(texts.map(({ prompt }) => prompts[prompt]));
  expect(results.map(({ text }) => text)).toEqual(texts.map(({ completion }) => completion));
});
