import { describe, expect, it } from 'vitest';
import { LLM, type LoadOptions } from '../../src/llm.ts';
import { writeFixtureAsGguf } from '../helpers/gguf-model.ts';
import { expectGolden, type Golden, goldenRequests, readFixtureJson, readGolden } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const F32: LoadOptions = { compute: 'f32', threads: 1 };
/** Their `query_pre_attn_scalar` is that of no published size, so no key can say it. */
const UNPUBLISHED = ['gemma2', 'gemma3'] as const;

describe.each([
  'llama',
  'llama3',
  'llama-linear',
  'llama-yarn',
  'llama-bf16-sharded',
  'mistral',
  'mixtral',
  'qwen2',
  'qwen3',
  'qwen2_moe',
  'qwen3_moe',
  'gemma',
  'phi3',
  ...UNPUBLISHED,
] as const)('%s as a GGUF file of llama.cpp', (name) => {
  const embedConfig = UNPUBLISHED.some((other) => other === name);

  it.each([
    ['alone', { gpuBatchSize: 1 }],
    ['in a ragged batch', {}],
  ])('gives the golden ids and log-probabilities, %s', async (_what, options) => {
    await using temporary = await makeTemporaryFolder();
    await using llm = await LLM.load(await writeFixtureAsGguf(name, temporary.path, embedConfig), { ...F32, ...options });
    const golden = readGolden(name);
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
