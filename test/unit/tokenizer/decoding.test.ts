import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Tokenizer as Binding } from 'tokenizers';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Tokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { load, OPT, optBinding, stream, useVariants } from './opt-folder.ts';

const variant = useVariants();

describe('decoding', () => {
  let tokenizer: Tokenizer;
  let binding: Binding;
  let byteIds: number[];
  beforeAll(async () => {
    [tokenizer, binding] = [await load(OPT), await optBinding()];
    const alphabet = JSON.parse(readFileSync(join(OPT, 'vocab.json'), 'utf8')) as Record<string, number>;
    byteIds = byteAlphabet().map((character) => alphabet[character] as number);
  });

  it('has a token for every byte', () => expect(new Set(byteIds).size).toBe(256));

  it.each([
    ['a truncated character', [0xe2, 0x82]],
    ['a truncated character, then text', [0xe2, 0x82, 0x41]],
    ['a lonely continuation byte', [0x41, 0x80, 0x42]],
    ['an over-long form', [0xc0, 0x80, 0xe0, 0x80, 0x80, 0xf0, 0x80, 0x80, 0x80]],
    ['an encoded surrogate', [0xed, 0xa0, 0x80, 0xed, 0x9f, 0xbf]],
    ['a value above U+10FFFF', [0xf4, 0x90, 0x80, 0x80, 0xf5, 0x80]],
    ['a character cut by another', [0xf0, 0x9f, 0x98, 0xf0, 0x9f, 0x98, 0x80]],
    ['a byte order mark', [0xef, 0xbb, 0xbf, 0x41]],
    ['a byte that never occurs', [0xff, 0xfe, 0x41]],
  ])('replaces %s as the library does', async (_what, bytes) => {
    const ids = bytes.map((byte) => byteIds[byte] as number);
    const expected = await binding.decode(ids, true);
    expect(tokenizer.decode(ids)).toBe(expected);
    expect(stream(tokenizer, ids, true).join('')).toBe(expected);
  });

  it('equals the library on random ids, at once and streamed', async () => {
    const random = generator(1);
    // Many of the bytes lead or continue a character, and ids up to 639 are in the model but not in the tokenizer.
    const draw = () => (random(3) === 0 ? random(640) : (byteIds[random(4) === 0 ? random(256) : 0x80 + random(128)] as number));
    const sequences = Array.from({ length: 2000 }, () => Array.from({ length: random(40) }, draw));
    for (const skip of [true, false]) {
      const expected = await binding.decodeBatch(sequences, skip);
      expect(sequences.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: skip }))).toEqual(expected);
      expect(sequences.map((ids) => stream(tokenizer, ids, skip).join(''))).toEqual(expected);
    }
  });

  it.each(['a', '\x7F', '\x80', '\u07FF', '\u0800', '\uD7FF', '\uE000', '\uFFFF', '\u{10000}', '\u{10FFFF}'])(
    'streams %j with its last byte',
    (text) => {
      const ids = [...Buffer.from(text)].map((byte) => byteIds[byte] as number);
      expect(stream(tokenizer, ids, true)).toEqual([...ids.slice(1).map(() => ''), text, '']);
    },
  );

  it('gives no text for ids it does not know', () => {
    expect(tokenizer.decode([637, 639, -1, 1.5, 2 ** 32])).toBe('');
    expect(stream(tokenizer, [637, -1], true)).toEqual(['', '', '']);
    expect(tokenizer.tokenText(637)).toBe('');
  });

  it('shows single tokens', () => {
    expect([2, 0, 224, byteIds[0xe2] as number].map((id) => tokenizer.tokenText(id))).toEqual(['</s>', '<s>', ' ', '\uFFFD']);
  });
});

/** Characters that stand for bytes 0 to 255; written out of ranges, unlike in the code under test. */
function byteAlphabet(): string[] {
  const shifted = [...Array(33).keys(), ...Array.from({ length: 34 }, (_, i) => 127 + i), 173];
  return Array.from({ length: 256 }, (_, byte) => {
    const place = shifted.indexOf(byte);
    return String.fromCodePoint(place < 0 ? byte : 256 + place);
  });
}

describe('a decoder of pieces and bytes', () => {
  const vocab = ['<unk>', '</s>', '▁', '▁a', 'b', '<0xC3>', '<0xA9>', '<0xFF>', 'é'];
  const decoders = [
    { type: 'Replace', pattern: { String: '▁' }, content: ' ' },
    { type: 'ByteFallback' },
    { type: 'Fuse' },
    { type: 'Strip', content: ' ', start: 1, stop: 0 },
  ];
  const flags = { single_word: false, lstrip: false, rstrip: false, normalized: false, special: true };
  const json = JSON.stringify({
    version: '1.0',
    added_tokens: [{ id: 1, content: '</s>', ...flags }],
    normalizer: { type: 'Prepend', prepend: '▁' },
    decoder: { type: 'Sequence', decoders },
    model: { type: 'BPE', byte_fallback: true, unk_token: '<unk>', vocab: Object.fromEntries(vocab.map((t, i) => [t, i])), merges: [] },
    truncation: { direction: 'Right', max_length: 2, strategy: 'LongestFirst', stride: 0 },
  });

  it('streams what the library decodes at once', async () => {
    const tokenizer = await load(await variant({ 'tokenizer.json': json }));
    const binding = Binding.fromString(json);
    const random = generator(7);
    const sequences = Array.from({ length: 500 }, () => Array.from({ length: random(12) }, () => random(vocab.length + 1)));
    for (const skip of [true, false]) {
      const expected = await binding.decodeBatch(sequences, skip);
      expect(sequences.map((ids) => tokenizer.decode(ids, { skipSpecialTokens: skip }))).toEqual(expected);
      expect(sequences.map((ids) => stream(tokenizer, ids, skip).join(''))).toEqual(expected);
    }
  });

  it('never cuts a prompt, whatever the file says', async () => {
    const tokenizer = await load(await variant({ 'tokenizer.json': json }));
    expect([...(await tokenizer.encode('bbbb'))]).toEqual([2, 4, 4, 4, 4]);
  });
});

/** Integers in [0, n) from a linear congruential generator: equal in every run. */
function generator(seed: number): (n: number) => number {
  let state = seed;
  return (n) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * n);
  };
}
