/** Made model files are the same model to llama.cpp and to us, so that a comparison of speeds compares the same work. */
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { writeModelFile } from '../../bench/model-file.ts';
import { LLM } from '../../src/llm.ts';
import { openGguf } from '../../src/formats/gguf/gguf-file.ts';
import { promptOf } from '../../bench/workload.ts';
import type { WeightType } from '../../src/tensor/dtype.ts';
import { hasLlama, llamaGreedyRows } from '../helpers/llama-cpp.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const PROMPTS = [promptOf(20, 1), promptOf(3, 2), promptOf(1, 3)];

const TOKENS = 8;

/** How much less probable than the best one each token is to us, in nats; the most of all. */
async function regret(file: string, tokens: readonly (readonly number[])[]): Promise<number> {
  await using llm = await LLM.load(file, { compute: 'f32', threads: 1 });
  const texts = PROMPTS.map((prompt, i) => [...prompt, ...tokens[i]!]);
  const results = await llm.generate(texts, { maxTokens: 1, ignoreEos: true, promptLogprobs: 1 });
  const gaps = results.flatMap(({ promptLogprobs = [] }, i) =>
    promptLogprobs.slice(PROMPTS[i]!.length).map((position) => position!.top[0]!.logprob - position!.logprob),
  );
  expect(gaps).toHaveLength(PROMPTS.length * TOKENS);
  return Math.max(...gaps);
}

describe.skipIf(!hasLlama)('llama.cpp, rows in one batch, chooses the tokens that we would for a made', () => {
  // It rounds activations before it multiplies with blocks, so that close candidates change places.
  it.each([
    ['llama-tiny', 'f32', 0],
    ['qwen3-tiny', 'f32', 0],
    ...(['f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q5_0', 'q5_1', 'q4_k', 'q5_k', 'q6_k', 'iq4_nl'] as const).map(
      (type) => ['llama-tiny', type, 0.03] as const,
    ),
    ['qwen3-tiny', 'q4_k', 0.03],
  ] as const)('%s in %s', async (shape, type, most) => {
    await using temporary = await makeTemporaryFolder();
    const file = join(temporary.path, 'made.gguf');
    await writeModelFile({ shape, type }, file);
    expect(await regret(file, llamaGreedyRows(file, PROMPTS, TOKENS))).toBeLessThanOrEqual(most);
  });
});

describe('a made file', () => {
  it('has the types that llama.cpp gives it, and as many layers as it was told', async () => {
    expect(await typesOf('llama-tiny', 'q4_0', 1)).toEqual({
      'token_embd.weight': 'Q4_0',
      'blk.0.attn_norm.weight': 'F32',
      'blk.0.attn_q.weight': 'Q4_0',
      'blk.0.attn_k.weight': 'Q4_0',
      'blk.0.attn_v.weight': 'Q4_0',
      'blk.0.attn_output.weight': 'Q4_0',
      'blk.0.ffn_norm.weight': 'F32',
      'blk.0.ffn_gate.weight': 'Q4_0',
      'blk.0.ffn_up.weight': 'Q4_0',
      'blk.0.ffn_down.weight': 'Q4_0',
      'output_norm.weight': 'F32',
      'output.weight': 'Q6_K',
    });
  });

  it.each([
    ['a tied table is finer than the rest', 'qwen3-tiny', 'q4_k', 'Q6_K'],
    ['8 bits are not made finer', 'qwen3-tiny', 'q8_0', 'Q8_0'],
    ['OPT has one type', 'opt-125m', 'q4_0', 'Q4_0'],
  ] as const)('%s', async (_, shape, type, table) => {
    expect((await typesOf(shape, type, 1))['token_embd.weight']).toBe(table);
  });

  it('of an unknown shape is refused', async () => {
    await expect(typesOf('llama-8t', 'q4_0', 1)).rejects.toThrow('llama-8t: no known shape; known are llama-7b, llama-3-8b');
  });
});

async function typesOf(shape: string, type: WeightType, layers: number): Promise<Record<string, string>> {
  await using temporary = await makeTemporaryFolder();
  const file = join(temporary.path, 'made.gguf');
  await writeModelFile({ shape, type, layers }, file);
  await using gguf = await openGguf(file);
  return Object.fromEntries([...gguf.entries].map(([name, { dtype }]) => [name, dtype]));
}
