import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { beforeAll, describe, expect, it } from 'vitest';
import type { Tokenizer } from '../../../src/tokenizer/tokenizer.ts';
import { type GoldenCase, load, stream } from './opt-folder.ts';

const folderOf = (name: string) => fileURLToPath(new URL(`../../fixtures/tokenizers/${name}`, import.meta.url));
const casesOf = (name: string) =>
  (
    JSON.parse(readFileSync(`${folderOf(name)}/golden.json`, 'utf8')) as {
      cases: (Omit<GoldenCase, 'decoded_all'> & { decoded_all?: string })[];
    }
  ).cases;

describe.each(['llama-spm-bpe', 'llama-spm-unigram'])('tokenizer.model of %s', (name) => {
  let tokenizer: Tokenizer;
  beforeAll(async () => {
    tokenizer = await load(folderOf(name));
  });

  it('knows its special tokens', () => {
    const { vocabularySize, specialIds } = tokenizer;
    expect({ vocabularySize, specialIds }).toEqual({ vocabularySize: 900, specialIds: new Set([0, 1, 2]) });
  });

  it.each(casesOf(name))('gives the golden values of $text', async ({ text, ids, ids_no_special, decoded, decoded_all }) => {
    expect([...(await tokenizer.encode(text))]).toEqual(ids);
    expect([...(await tokenizer.encodeRaw(text))]).toEqual(ids_no_special);
    expect(tokenizer.decode(ids)).toBe(decoded);
    expect(stream(tokenizer, ids, true).join('')).toBe(decoded);
    if (decoded_all === undefined) return;
    expect(tokenizer.decode(ids, { skipSpecialTokens: false })).toBe(decoded_all);
    expect(stream(tokenizer, ids, false).join('')).toBe(decoded_all);
  });

  it.each(casesOf(name))('has no fewer tokens than it says for $text', ({ text, ids }) => {
    expect(tokenizer.minTokens(text)).toBeLessThanOrEqual(ids.length);
  });
});
