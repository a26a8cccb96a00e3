/** Bytes of a converted file that change behind our back are told before a token is made of them. */
import { open } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { openGguf } from '../../src/formats/gguf/gguf-file.ts';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { convertModel } from '../../src/llm/convert-model.ts';
import { FormatError } from '../../src/util/errors.ts';
import { convertFolder } from '../helpers/converted-model.ts';
import { type FixtureModel, fixtureFolder } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const REQUESTS = [
  { prompt: [5, 6, 7], params: { maxTokens: 3, ignoreEos: true } },
  { prompt: [10, 11], params: { maxTokens: 3, ignoreEos: true } },
];

/** Flips a bit of byte `at` of a tensor; of the last one for -1. */
async function damage(file: string, tensor: string, at: number): Promise<void> {
  await using gguf = await openGguf(file);
  const { start, byteLength } = gguf.entries.get(tensor)!;
  const position = start + (at < 0 ? byteLength + at : at);
  await using handle = await open(file, 'r+');
  const { buffer } = await handle.read(Buffer.alloc(1), 0, 1, position);
  await handle.write(Buffer.from([buffer[0]! ^ 4]), 0, 1, position);
}

/** Tokens that a model makes, and the error with which it ends. */
async function tokensUntilError(file: string, options: LoadOptions): Promise<{ tokens: number; error: unknown }> {
  let tokens = 0;
  try {
    await using llm = await LLM.load(file, { threads: 1, gpuBatchSize: 1, numGpuBatches: 2, ...options });
    for await (const event of llm.stream(REQUESTS)) if (event.type === 'finished' || event.type === 'token') tokens++;
    return { tokens, error: undefined };
  } catch (error) {
    return { tokens, error };
  }
}

const percent = (weights: number): LoadOptions => ({ percent: [0, weights, 0, 100, 0, 100] });
/** From weights that all pass to weights that all stay. */
const HOMES: readonly LoadOptions[] = [percent(0), { ...percent(0), overlap: false }, percent(60), percent(100), {}];

describe.each<[FixtureModel, readonly string[]]>([
  ['llama', ['token_embd.weight', 'blk.0.attn_k.weight', 'blk.1.ffn_down.weight', 'blk.1.ffn_norm.weight', 'output.weight']],
  ['qwen3_moe', ['blk.1.ffn_up_exps.weight', 'blk.0.ffn_gate_inp.weight']],
  ['phi3', ['blk.0.attn_qkv.weight', 'blk.1.ffn_up.weight']],
])('a converted %s with one changed bit', (model, tensors) => {
  it.each(tensors)('in %s ends with file and tensor, and without a token', async (tensor) => {
    await using temporary = await makeTemporaryFolder();
    const file = await convertFolder(fixtureFolder(model), temporary.path, { type: 'f32' });
    for (const options of HOMES) expect((await tokensUntilError(file, options)).error).toBeUndefined();
    await damage(file, tensor, -3);
    for (const options of HOMES) {
      const { tokens, error } = await tokensUntilError(file, options);
      expect({ tokens, error }).toMatchObject({ tokens: 0, error: expect.any(FormatError) as unknown });
      const message = `${file}: tensor "${tensor}" cannot be read: ${file}: is damaged: its bytes have the CRC-32 `;
      expect((error as Error).message.slice(0, message.length)).toBe(message);
    }
  });
});

it('nobody compares anything where that is not wanted', async () => {
  await using temporary = await makeTemporaryFolder();
  const file = await convertFolder(fixtureFolder('llama'), temporary.path, { type: 'f32' });
  await damage(file, 'blk.0.ffn_up.weight', 0); // the lowest byte of a number
  const { tokens, error } = await tokensUntilError(file, { ...percent(0), checksums: false });
  expect(error).toBeUndefined();
  expect(tokens).toBeGreaterThan(0);
});

it('a damaged file is not converted', async () => {
  await using temporary = await makeTemporaryFolder();
  const file = await convertFolder(fixtureFolder('llama'), temporary.path, { type: 'f32' });
  await damage(file, 'blk.0.ffn_up.weight', 0);
  const output = path.join(temporary.path, 'other.gguf');
  await expect(convertModel(file, { type: 'q8', output })).rejects.toThrow(/tensor "blk\.0\.ffn_up\.weight" cannot be read: .* is damaged/);
});
