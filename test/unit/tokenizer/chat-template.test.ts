import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { createChatTemplate, loadChatTemplate, type TemplateMessage } from '../../../src/tokenizer/chat-template.ts';
import { loadTokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { readFixtureJson } from '../../helpers/golden.ts';

interface ChatGolden {
  readonly chats: readonly {
    readonly messages: readonly TemplateMessage[];
    readonly add_generation_prompt: boolean;
    readonly text: string;
    readonly ids: readonly number[];
  }[];
  readonly bad_chat: readonly { readonly messages: readonly TemplateMessage[]; readonly error: string }[];
}

const folder = path.join(import.meta.dirname, '../../fixtures/tokenizers/llama-bpe');
const { chats, bad_chat: refused } = readFixtureJson('tokenizers/llama-bpe/golden.json') as ChatGolden;

describe('the template of a folder', () => {
  it.each(chats)('renders $messages as transformers does', async ({ messages, add_generation_prompt: addGenerationPrompt, text, ids }) => {
    const [template, tokenizer] = [await loadChatTemplate(folder), await loadTokenizer(folder)];
    expect(template!.render(messages, { addGenerationPrompt })).toBe(text);
    expect([...(await tokenizer!.encodeRaw(text))]).toEqual(ids);
  });

  it.each(refused)('refuses $messages in its own words', async ({ messages, error }) => {
    const template = await loadChatTemplate(folder);
    expect(() => template!.render(messages)).toThrow(error);
  });

  it('is the file of its own where there is one, and the default among several', async () => {
    const temporary = await mkdtemp(path.join(os.tmpdir(), 'flexllmgen-'));
    try {
      const several = [
        { name: 'tool_use', template: 'tools' },
        { name: 'default', template: '{{ bos_token }}{{ messages[0].content }}' },
      ];
      await writeFile(path.join(temporary, 'tokenizer_config.json'), JSON.stringify({ bos_token: '<s>', chat_template: several }));
      expect((await loadChatTemplate(temporary))!.render([{ role: 'user', content: 'a' }])).toBe('<s>a');
      await writeFile(path.join(temporary, 'chat_template.jinja'), 'own {{ bos_token }}');
      expect((await loadChatTemplate(temporary))!.render([])).toBe('own <s>');
      await writeFile(path.join(temporary, 'chat_template.jinja'), '{% for %}');
      await expect(loadChatTemplate(temporary)).rejects.toThrow(/chat_template\.jinja: chat template cannot be read/);
    } finally {
      await rm(temporary, { recursive: true });
    }
  });

  it('is none where the folder has none', async () => {
    await expect(loadChatTemplate(path.join(folder, '../opt-bytelevel'))).resolves.toBeUndefined();
  });
});

describe('hostile templates', () => {
  it.each([
    ['reach for prototypes', '{{ messages.constructor.constructor("return process")() }}'],
    ['call what is not there', '{{ nothing() }}'],
    ['divide types', '{{ messages / 2 | foo }}'],
  ])('that %s are errors of the row, or give nothing', (_what, source) => {
    const template = createChatTemplate(source, {}, 'x');
    expect(() => template.render([{ role: 'user', content: 'a' }])).toThrow(/messages: the chat template refuses them/);
  });

  it('that make too much of little are refused', () => {
    const template = createChatTemplate('{% for i in range(100000) %}aaaaaaaa{% endfor %}', {}, 'x');
    expect(() => template.render([])).toThrow(/makes 800000 characters/);
  });

  it('that are too long are not read', () => {
    expect(() => createChatTemplate('a'.repeat((1 << 20) + 1), {}, 'x')).toThrow(/x: chat template of 1048577 characters/);
  });
});
