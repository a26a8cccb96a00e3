/** Converted files in llama.cpp: names, order of rows, keys and types must be what it expects, for it to give the same tokens. */
import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import { convertFolder } from '../helpers/converted-model.ts';
import { copyFixture, type FixtureModel, fixtureFolder } from '../helpers/golden.ts';
import { hasLlama, llamaGreedy } from '../helpers/llama-cpp.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const PROMPTS = [
  [5, 6, 7, 8, 9, 20, 33],
  [40, 3],
];
const TOKENS = 20;

/** What llama.cpp does not take from a file is set to what it has instead. */
const CHANGES: Readonly<Partial<Record<FixtureModel, Readonly<Record<string, unknown>>>>> = {
  /** It gives the architecture `llama` no window. */
  mistral: { sliding_window: null },
  /** It knows the scale of scores by the published sizes. */
  gemma2: { query_pre_attn_scalar: 32 },
  /** It gives every sixth layer no window, and there are three. */
  gemma3: { query_pre_attn_scalar: 32, layer_types: ['sliding_attention', 'sliding_attention', 'sliding_attention'] },
  /** It takes the divisors of long sequences as soon as the context, of 256 at least, is longer than the original one. */
  'phi3-longrope': { original_max_position_embeddings: 256, max_position_embeddings: 1024 },
};

describe.skipIf(!hasLlama)('llama.cpp gives the same greedy tokens for a converted model of', () => {
  it.each([
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
    'gemma2',
    'gemma3',
    'phi3',
    'phi3-longrope',
  ] as const)('%s', async (name) => {
    await using temporary = await makeTemporaryFolder();
    const change = CHANGES[name];
    const folder = change ? await copyFixture(name, temporary.path, change) : fixtureFolder(name);
    const file = await convertFolder(folder, temporary.path, { type: 'f32' });
    await using llm = await LLM.load(file, { compute: 'f32', threads: 1 });
    const results = await llm.generate(PROMPTS, { maxTokens: TOKENS, ignoreEos: true });
    const theirs = PROMPTS.map((prompt) => llamaGreedy(file, prompt, TOKENS));
    expect(results.map(({ tokenIds }) => [...tokenIds])).toEqual(theirs);
  });
});
