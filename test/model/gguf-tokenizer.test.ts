import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import type { GgufMetadata } from '../../src/formats/gguf/gguf-metadata.ts';
import { openGgufTokenizer } from '../../src/llm/gguf-tokenizer.ts';
import { Lifetime } from '../../src/util/lifetime.ts';

const folder = join(import.meta.dirname, '../fixtures/tokenizers/llama-bpe');
const text = readFileSync(join(folder, 'tokenizer.json'), 'utf8');
const { cases } = JSON.parse(readFileSync(join(folder, 'golden.json'), 'utf8')) as { cases: { text: string; ids: number[] }[] };

it('reads the tokenizer.json in a GGUF file, which ends where the file says', async () => {
  await using lifetime = new Lifetime();
  const metadata: GgufMetadata = new Map<string, string | number>([
    ['tokenizer.huggingface.json', text],
    ['tokenizer.ggml.eos_token_id', 2],
  ]);
  const opened = await openGgufTokenizer('a.gguf', metadata, lifetime);
  expect(opened?.endIds).toEqual([2]);
  for (const { text: prompt, ids } of cases) expect([...((await opened?.tokenizer.encode(prompt)) ?? [])]).toEqual(ids);
});

it('knows the special tokens of a tokenizer.json that end a turn', async () => {
  await using lifetime = new Lifetime();
  const json = JSON.parse(text) as { added_tokens: { id: number; content: string }[] };
  const turn = { ...json.added_tokens[0], id: 640, content: '<|im_end|>' };
  const metadata: GgufMetadata = new Map([
    ['tokenizer.huggingface.json', JSON.stringify({ ...json, added_tokens: [...json.added_tokens, turn] })],
  ]);
  expect((await openGgufTokenizer('a.gguf', metadata, lifetime))?.endIds).toEqual([640]);
});
