import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { expect, it } from 'vitest';
import { parseTokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { FormatError } from '../../../src/util/errors.ts';

const fixture = fileURLToPath(new URL('../../fixtures/tokenizers/llama-bpe/tokenizer.json', import.meta.url));
const content = JSON.parse(readFileSync(fixture, 'utf8')) as { readonly model: object };
const charsmap = (bytes: readonly number[]) => ({ type: 'Precompiled', precompiled_charsmap: Buffer.from(bytes).toString('base64') });
const cutOff = charsmap([0xff, 0xff, 0, 0, 0, 0, 0, 0]);
const template = (single: string, pair: string) => ({
  type: 'TemplateProcessing',
  single: [{ SpecialToken: { id: single, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }],
  pair: [{ SpecialToken: { id: pair, type_id: 0 } }, { Sequence: { id: 'A', type_id: 0 } }, { Sequence: { id: 'B', type_id: 1 } }],
  special_tokens: { '<s>': { id: '<s>', ids: [1], tokens: ['<s>'] } },
});
const model = (change: object) => ({ model: { ...content.model, ...change } });

it.each([
  ['a table of replacements that is cut off', { normalizer: cutOff }, /precompiled_charsmap is cut off/],
  [
    'the same in sequences',
    { normalizer: { type: 'Sequence', normalizers: [{ type: 'NFC' }, { type: 'Sequence', normalizers: [cutOff] }] } },
    /precompiled_charsmap is cut off/,
  ],
  ['a token that the template lacks', { post_processor: template('<x>', '<s>') }, /the template has "<x>", special_tokens do not/],
  [
    'the same for pairs, in a sequence',
    { post_processor: { type: 'Sequence', processors: [template('<s>', '<y>')] } },
    /the template has "<y>", special_tokens do not/,
  ],
  ['a table beside members', { normalizer: { ...cutOff, normalizers: [] } }, /precompiled_charsmap is cut off/],
  ['a template beside members', { post_processor: { ...template('<x>', '<s>'), processors: [] } }, /the template has "<x>"/],
  ['merges without their prefix', model({ continuing_subword_prefix: '##longer' }), /merge 0 does not go on with .* "##longer"/],
  ['a prefix of other letters', model({ continuing_subword_prefix: 'ü' }), /continuing_subword_prefix is "ü", expected ASCII/],
])('refuses %s', async (_what, change, message) => {
  const text = JSON.stringify({ ...content, ...change });
  await expect(parseTokenizer('tokenizer.json', text)).rejects.toThrow(FormatError);
  await expect(parseTokenizer('tokenizer.json', text)).rejects.toThrow(message);
});

it('takes what is complete', async () => {
  const tokenizer = await parseTokenizer('tokenizer.json', JSON.stringify({ ...content, post_processor: template('<s>', '<s>') }));
  expect((await tokenizer.encode('a'))[0]).toBe(1);
});
