import { readFileSync } from 'node:fs';
import { cp, truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { beforeAll, describe, expect, it } from 'vitest';
import { loadTokenizer, type Tokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { cases, load, OPT, optBinding, stream, useVariants } from './opt-folder.ts';

const variant = useVariants();

/** Both layouts of the Hub must give the same tokenizer. */
const LAYOUTS: [string, () => Promise<string>][] = [
  ['vocab.json and merges.txt', async () => OPT],
  [
    'tokenizer.json',
    async () => {
      const folder = await variant({ 'vocab.json': undefined, 'merges.txt': undefined });
      (await optBinding()).save(join(folder, 'tokenizer.json'));
      return folder;
    },
  ],
];

describe.each(LAYOUTS)('OPT from %s', (_layout, folder) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await load(await folder());
  });

  it('knows its special tokens', () => {
    const { vocabularySize, specialIds } = tokenizer;
    expect({ vocabularySize, specialIds }).toEqual({ vocabularySize: 637, specialIds: new Set([1, 2]) });
  });

  it.each(cases)('equals transformers on $text', async ({ text, ids, ids_no_special, decoded, decoded_all }) => {
    expect([...(await tokenizer.encode(text))]).toEqual(ids);
    expect([...(await tokenizer.encodeRaw(text))]).toEqual(ids_no_special);
    expect(tokenizer.decode(ids)).toBe(decoded);
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded_all);
  });

  it.each(cases)('streams whole characters of $text', ({ ids, decoded, decoded_all }) => {
    for (const [skip, expected] of [
      [true, decoded],
      [false, decoded_all],
    ] as const) {
      const parts = stream(tokenizer, ids, skip);
      expect(parts.join('')).toBe(expected);
      expect(parts.filter((part) => part.includes('\uFFFD') || Buffer.from(part).toString() !== part)).toEqual([]);
    }
  });
});

describe('settings of vocab.json and merges.txt', () => {
  const config = (settings: object) => JSON.stringify({ tokenizer_class: 'GPT2Tokenizer', ...settings });
  const bare = { 'special_tokens_map.json': undefined };

  it('takes special tokens written as text alone', async () => {
    const settings = config({ bos_token: '</s>', eos_token: '</s>', unk_token: '</s>', pad_token: '<pad>', add_bos_token: true });
    const tokenizer = await load(await variant({ ...bare, 'tokenizer_config.json': settings }));
    for (const { text, ids } of cases) expect([...(await tokenizer.encode(text))]).toEqual(ids);
  });

  it('puts nothing in front unless told to, nor without any settings', async () => {
    const tokenizer = await load(await variant({ ...bare, 'tokenizer_config.json': undefined }));
    expect([...(await tokenizer.encode('a'))]).toEqual([68]);
    expect(tokenizer.specialIds.size).toBe(0);
  });

  it('puts a space in front with add_prefix_space', async () => {
    const tokenizer = await load(await variant({ 'tokenizer_config.json': config({ add_prefix_space: true }) }));
    const spaced = cases.find(({ text }) => text === ' a');
    expect([...(await tokenizer.encode('a'))]).toEqual(spaced?.ids_no_special);
  });

  it('numbers added tokens after the vocabulary', async () => {
    const folder = await variant({
      'added_tokens.json': '{"<row>": 637, "<ä b>": 638}',
      'special_tokens_map.json': '{"additional_special_tokens": ["<row>", {"content": "<end>", "lstrip": true}]}',
    });
    const tokenizer = await load(folder);
    expect([...(await tokenizer.encodeRaw('a<row>a <end>a<ä b>'))]).toEqual([68, 637, 68, 639, 68, 638]);
    expect(tokenizer.decode([68, 637, 638, 639])).toBe('a<ä b>');
    expect(tokenizer.decode([68, 637, 639], { skipSpecialTokens: false })).toBe('a<row><end>');
    expect(tokenizer.vocabularySize).toBe(640);
  });

  it('reads added_tokens_decoder', async () => {
    const decoder = { 1: { content: '<pad>', special: true }, 637: { content: '<row>', special: false } };
    const folder = await variant({ ...bare, 'tokenizer_config.json': config({ added_tokens_decoder: decoder }) });
    const tokenizer = await load(folder);
    expect([...(await tokenizer.encode('<pad><row>'))]).toEqual([1, 637]);
    expect(tokenizer.specialIds).toEqual(new Set([1]));
  });
});

describe('loadTokenizer', () => {
  it('finds none in a folder without tokenizer files', async () => {
    const folder = await variant({ 'vocab.json': undefined, 'merges.txt': undefined });
    expect(await loadTokenizer(folder)).toBeUndefined();
  });

  const vocabulary = (content: string) => ({ 'vocab.json': content });
  const merges = (content: string) => ({ 'merges.txt': content });
  const mergeLines = readFileSync(join(OPT, 'merges.txt'), 'utf8').split('\n');
  const halfMerges = mergeLines.slice(0, mergeLines.length / 2).join('\n');
  const settings = (content: string) => ({ 'tokenizer_config.json': content });
  const whole = (content: string) => ({ 'tokenizer.json': content });

  it.each([
    ['no vocab.json', { 'vocab.json': undefined }, /vocab\.json: is missing, but merges\.txt is there/],
    ['no merges.txt', { 'merges.txt': undefined }, /merges\.txt: is missing, but vocab\.json is there/],
    ['a truncated vocabulary', vocabulary('{"a":0,'), /vocab\.json: is not JSON: /],
    ['a vocabulary list', vocabulary('["a"]'), /vocab\.json: is not a JSON object/],
    ['an empty vocabulary', vocabulary('{}'), /vocab\.json: vocabulary is empty/],
    ['a negative id', vocabulary('{"a":-1}'), /vocab\.json: token "a": id -1 is no integer from 0 to 4194303/],
    ['an id as text', vocabulary('{"a":"1"}'), /vocab\.json: token "a": id "1" is no integer/],
    ['a huge id', vocabulary('{"a":4000000000}'), /vocab\.json: token "a": id 4000000000 is no integer/],
    ['an id used twice', vocabulary('{"a":0,"b":0}'), /vocab\.json: id 0 belongs to "a" and to "b"/],
    ['a merge of one token', merges('#version: 0.2\nĠ\n'), /merges\.txt: line 2 is "Ġ", expected two tokens/],
    ['a merge of three tokens', merges('a b c\n'), /merges\.txt: line 1 is "a b c", expected two tokens/],
    ['a merge of unknown tokens', merges('#version: 0.2\n€ a\n'), /merges\.txt: line 2: "€" is not in vocab\.json/],
    ['empty merges', merges(''), /merges\.txt: merges for the 379 longer tokens of vocab\.json expected, got 0; /],
    ['merges cut in half', merges(halfMerges), /merges\.txt: merges for the 379 longer .* expected, got 188; is the file cut off\?/],
    ['settings that are no JSON', settings('nothing'), /tokenizer_config\.json: is not JSON/],
    ['a flag as text', settings('{"add_bos_token":"yes"}'), /tokenizer_config\.json: "add_bos_token" is "yes", expected true or false/],
    ['a token as number', settings('{"bos_token":2}'), /tokenizer_config\.json: bos_token is 2, expected text or an object/],
    ['another class', settings('{"tokenizer_class":"CLIPTokenizer"}'), /tokenizer_class "CLIPTokenizer" cannot be built/],
    ['a wrong stated id', { 'added_tokens.json': '{"<row>":9}' }, /added token "<row>" has id 9, expected 637/],
    ['no JSON', whole('{"model":'), /tokenizer\.json: is not JSON: /],
    ['no model', whole('{}'), /tokenizer\.json: has no "model"/],
    ['a model without vocabulary', whole('{"model":{"type":"BPE"}}'), /tokenizer\.json: vocabulary is not an object of token to id/],
    ['a wrong id in the model', whole('{"model":{"vocab":{"a":1.5}}}'), /tokenizer\.json: token "a": id 1\.5 is no integer/],
    ['pieces without scores', whole('{"model":{"vocab":[["a"]]}}'), /tokenizer\.json: vocabulary is not a list of pieces and scores/],
    ['an unknown model', whole('{"version":"1.0","model":{"type":"X","vocab":{"a":0}}}'), /tokenizer\.json: is not a tokenizer: /],
    ['added tokens without text', whole('{"added_tokens":[1],"model":{"vocab":{"a":0}}}'), /tokenizer\.json: "added_tokens" is not a list/],
  ] as [string, Record<string, string | undefined>, RegExp][])('refuses %s', async (_what, files, message) => {
    await expect(loadTokenizer(await variant(files))).rejects.toThrow(
      expect.objectContaining({ name: 'FormatError', message: expect.stringMatching(message) }),
    );
  });

  it('refuses bytes that are no UTF-8, and a folder in the place of a file', async () => {
    const folder = await variant({});
    await writeFile(join(folder, 'vocab.json'), Uint8Array.of(0x7b, 0xff, 0x7d));
    await expect(loadTokenizer(folder)).rejects.toThrow(/vocab\.json: is not UTF-8/);
    await cp(OPT, join(folder, 'tokenizer.json'), { recursive: true });
    await expect(loadTokenizer(folder)).rejects.toThrow(/tokenizer\.json: is not a file/);
  });

  it('refuses a file beyond the limit before reading it', async () => {
    const folder = await variant({});
    await truncate(join(folder, 'vocab.json'), 2 ** 33);
    await expect(loadTokenizer(folder)).rejects.toThrow(/vocab\.json: has 8589934592 bytes, at most 67108864 are read/);
  });
});
