import { describe, expect, it } from 'vitest';
import type { GgufValue } from '../../../src/formats/gguf/gguf-metadata.ts';
import { checkVocabularyMetadata } from '../../../src/llm/gguf-vocabulary.ts';

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
const PIECES = ['<unk>', '<s>', '</s>', ...BYTES, '\u2581a', 'b'];
const LLAMA: Readonly<Record<string, GgufValue>> = {
  model: 'llama',
  tokens: PIECES,
  scores: PIECES.map((_, i) => -i),
  token_type: PIECES.map((_, i) => (i === 0 ? 2 : i < 3 ? 3 : i < 259 ? 6 : 1)),
  bos_token_id: 1,
};
const GPT2: Readonly<Record<string, GgufValue>> = { model: 'gpt2', pre: 'gpt-2', tokens: ['a', 'b', 'ab'], merges: ['a b'] };

const check = (keys: Readonly<Record<string, GgufValue | undefined>>) =>
  checkVocabularyMetadata(
    'm.gguf',
    new Map(
      Object.entries(keys).flatMap(([key, value]): [string, GgufValue][] =>
        value === undefined ? [] : [[`tokenizer.ggml.${key}`, value]],
      ),
    ),
  );

describe('what llama.cpp gets of a vocabulary', () => {
  it('is the checked keys and nothing else', () => {
    const { entries, sentencePieces } = check({ ...LLAMA, precompiled_charsmap: 'x', add_space_prefix: false });
    expect([...entries.keys()]).toEqual([
      'general.architecture',
      ...['model', 'tokens', 'scores', 'token_type', 'bos_token_id', 'add_space_prefix'].map((key) => `tokenizer.ggml.${key}`),
    ]);
    expect(sentencePieces).toEqual({ tokens: PIECES, dropsFirstSpace: false });
    expect(check(GPT2)).not.toHaveProperty('sentencePieces');
  });

  it.each([
    ['another model', { ...LLAMA, model: 'bert' }, /m\.gguf: tokenizer\.ggml\.model is "bert"; vocabularies of llama and gpt2 are read/],
    ['no tokens', { ...LLAMA, tokens: undefined }, /tokens is no list of strings/],
    ['tokens that are numbers', { ...LLAMA, tokens: [1, 2] }, /tokens is no list of strings/],
    ['a token that stands twice', { ...GPT2, tokens: ['a', 'b', 'a'] }, /tokens entries 0 and 2 are both "a"/],
    ['tokens that end at a zero and are the same then', { ...GPT2, tokens: ['a', 'b', 'a\0c'] }, /entries 0 and 2/],
    ['a token of absurd length', { ...GPT2, tokens: ['a', 'b'.repeat(5000)] }, /entry 1 has 5000 characters, at most 4096/],
    ['too few scores', { ...LLAMA, scores: [0] }, /scores is no list of 261 numbers/],
    ['a score that is no number', { ...LLAMA, scores: PIECES.map(() => NaN) }, /scores entry 0 is NaN/],
    ['no scores', { ...LLAMA, scores: undefined }, /scores is missing/],
    ['an unknown type of token', { ...LLAMA, token_type: PIECES.map(() => 9) }, /token_type entry 0 is 9, 0 to 6 expected/],
    ['a byte that is none', { ...GPT2, token_type: [6, 1, 1] }, /token_type entry 0 says that "a" is a byte/],
    [
      'no token for a byte',
      { ...LLAMA, tokens: PIECES.map((piece) => piece.replace('<0x41>', 'A')), token_type: undefined },
      /tokens has no <0x41>/,
    ],
    ['a merge of one token', { ...GPT2, merges: ['ab'] }, /merges entry 0 is "ab", two tokens and a space/],
    ['a special id behind the end', { ...GPT2, eos_token_id: 3 }, /eos_token_id is 3, an id below 3 expected/],
    ['a flag that is a number', { ...GPT2, add_bos_token: 1 }, /add_bos_token is 1, true or false expected/],
    ['a pre-tokenizer that is no name', { ...GPT2, pre: 7 }, /pre is no string/],
  ])('refuses %s', (_what, keys, message) => {
    expect(() => check(keys)).toThrow(message);
  });
});
