import { describe, expect, it } from 'vitest';
import { tokenBound } from '../../../src/tokenizer/token-bound.ts';
import { fixtureFolder } from '../../helpers/golden.ts';
import { cases, load, OPT, useVariants } from './opt-folder.ts';

const variant = useVariants();
const STRIPPING = { content: '<pad>', special: true, lstrip: true, rstrip: true, single_word: false, normalized: false };
const TEXTS = [
  ...cases.map(({ text }) => text),
  ...[' ', '</s>', '\u{1f600}é€', '\u1fbe\u0308\u0301'].map((text) => text.repeat(2000)),
  `${' \u0085'.repeat(5000)}<pad>${'\n'.repeat(5000)}`,
];

describe('minTokens', () => {
  it.each<[string, () => Promise<string>]>([
    ['bytes', async () => OPT],
    ['pieces and bytes', async () => fixtureFolder('llama')],
    ['a token that takes the spaces beside it', () => variant({ 'special_tokens_map.json': JSON.stringify({ pad_token: STRIPPING }) })],
  ])('is never above what encoding gives: %s', async (_what, folder) => {
    const tokenizer = await load(await folder());
    for (const text of TEXTS) {
      const { length } = await tokenizer.encodeRaw(text);
      expect(tokenizer.minTokens(text)).toBeLessThanOrEqual(length);
    }
    expect(tokenizer.minTokens('word'.repeat(10_000))).toBeGreaterThan(500);
  });
});

describe('tokenBound', () => {
  const bytes = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
  const vocab = Object.fromEntries([...bytes, '▁', 'eightttt'].map((token, id) => [token, id]));
  const model = { type: 'BPE', byte_fallback: true, vocab };
  const replace = (pattern: object, content: string) => ({ type: 'Replace', pattern, content });
  const sequence = (...normalizers: object[]) => ({ type: 'Sequence', normalizers });

  it.each<[string, object, number]>([
    ['no normaliser', {}, 10],
    ['spaces that grow', { normalizer: sequence({ type: 'Prepend', prepend: '▁' }, replace({ String: ' ' }, '▁')) }, 10],
    ['NFC', { normalizer: { type: 'NFC' } }, 3],
    ['text that is left out', { normalizer: replace({ String: 'aa' }, 'a') }, 0],
    ['a pattern', { normalizer: replace({ Regex: 'a+' }, 'a') }, 0],
    ['an unknown normaliser in a sequence', { normalizer: sequence({ type: 'NFC' }, { type: 'NFKC' }) }, 0],
    ['separators that go', { pre_tokenizer: { type: 'Split', behavior: 'Removed' } }, 0],
    ['separators that stay', { pre_tokenizer: { type: 'Sequence', pretokenizers: [{ type: 'Split', behavior: 'Isolated' }] } }, 10],
    ['words alone', { pre_tokenizer: { type: 'Whitespace' } }, 0],
    ['no bytes to fall back to', { model: { ...model, byte_fallback: false } }, 0],
    ['too few bytes', { model: { ...model, vocab: { eightttt: 0 } } }, 0],
    ['another model', { model: { ...model, type: 'WordPiece' } }, 0],
  ])('divides by the longest token where that is safe: %s', (_what, changes, wanted) => {
    expect(tokenBound({ model, ...changes }, [])('a'.repeat(80))).toBe(wanted);
  });

  it('reckons with NFC as it is: no character is made of more than four times its bytes', () => {
    const texts = Array.from({ length: 0x110000 }, (_, i) => String.fromCodePoint(i)).filter((text) => !/\p{Cs}/u.test(text));
    const longest = new Map<string, number>();
    for (const text of texts) {
      const parts = text.normalize('NFD');
      if (Array.from(parts).length === 1) longest.set(parts, Math.max(longest.get(parts) ?? 0, Buffer.byteLength(text)));
    }
    const worst = texts.reduce((most, text) => {
      const source = Array.from(text.normalize('NFD')).reduce((sum, part) => sum + (longest.get(part) ?? 0), 0);
      return Math.max(most, source / Buffer.byteLength(text.normalize('NFC')));
    }, 0);
    expect(worst).toBeGreaterThan(3);
    expect(worst).toBeLessThanOrEqual(4);
  });
});
