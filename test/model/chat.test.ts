import { cp, readFile, rm, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import { fixtureFolder, readFixtureJson } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

interface ChatGolden {
  readonly chats: readonly {
    readonly messages: readonly { readonly role: string; readonly content: string }[];
    readonly add_generation_prompt: boolean;
    readonly ids: readonly number[];
  }[];
}

const tokenizer = path.join(import.meta.dirname, '../fixtures/tokenizers/llama-bpe');

it('a conversation becomes the ids that transformers makes of it, beside plain prompts', async () => {
  await using temporary = await makeTemporaryFolder();
  await cp(fixtureFolder('llama'), temporary.path, { recursive: true });
  for (const name of ['tokenizer.json', 'tokenizer_config.json', 'special_tokens_map.json'])
    await writeFile(path.join(temporary.path, name), await readFile(path.join(tokenizer, name)));
  const { chats } = readFixtureJson('tokenizers/llama-bpe/golden.json') as ChatGolden;
  const asked = chats.filter((chat) => chat.add_generation_prompt);
  await using llm = await LLM.load(temporary.path, { compute: 'f32' });
  expect(llm.hasChatTemplate).toBe(true);
  const params = { maxTokens: 2, ignoreEos: true };
  const results = await llm.generate([...asked.map(({ messages }) => ({ prompt: { messages }, params })), { prompt: 'Hello', params }]);
  expect(results.slice(0, -1).map(({ promptTokenIds }) => promptTokenIds)).toEqual(asked.map(({ ids }) => ids));
  expect(results.at(-1)!.promptTokenIds[0]).toBe(1);
  await expect(llm.generate([{ prompt: { messages: [{ role: 'assistant', content: 'a' }] }, params }])).rejects.toThrow(
    /prompt 0: messages: the chat template refuses them: .*alternate/,
  );
});

it('a model without a chat template says so', async () => {
  await using llm = await LLM.load(fixtureFolder('opt'), { compute: 'f32' });
  expect(llm.hasChatTemplate).toBe(false);
  await expect(llm.generate([{ prompt: { messages: [{ role: 'user', content: 'Hi' }] } }])).rejects.toThrow(/no chat template/);
});

it('a chat template is of no use without a tokenizer', async () => {
  await using temporary = await makeTemporaryFolder();
  await cp(fixtureFolder('llama'), temporary.path, { recursive: true });
  await rm(path.join(temporary.path, 'tokenizer.json'));
  await writeFile(path.join(temporary.path, 'chat_template.jinja'), '{{ messages[0].content }}');
  await using llm = await LLM.load(temporary.path, { compute: 'f32' });
  expect(llm.hasChatTemplate).toBe(false);
});
