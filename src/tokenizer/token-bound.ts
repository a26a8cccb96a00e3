import { byteAlphabet, tokenBytes } from './byte-level.ts';
import { isJsonObject, type JsonObject } from './read-file.ts';

/** Fewest ids that a text can become; 0 where that cannot be told without encoding it. */
export type TokenBound = (text: string) => number;

/**
 * NFC makes text at most this much shorter: U+1FBE U+0308 U+0301 has 7 bytes, U+0390 that they become has 2.
 * Source: all characters with their decompositions in Unicode 15.
 */
const NFC_SHRINKS = 4;
/** White_Space of Unicode; the class of JavaScript lacks U+0085. */
const WHITESPACE = /[\s\u0085]+/gu;
/** Pre-tokenizers that keep all of the text, in some spelling that is no shorter. */
const KEEPING: ReadonlySet<unknown> = new Set(['ByteLevel', 'Metaspace', 'Digits']);

interface Added {
  readonly content: string;
  readonly lstrip?: unknown;
  readonly rstrip?: unknown;
}

/** Divides the bytes of a text by those of the longest token, where every id stands for some of the text and none of it is dropped. */
export function tokenBound(content: JsonObject, added: readonly Added[]): TokenBound {
  const { normalizer, pre_tokenizer: splitter, model } = content;
  const shrinks = normalizerShrinks(normalizer);
  if (shrinks === undefined || !keepsText(splitter) || !isJsonObject(model)) return () => 0;
  const { type = 'BPE', vocab, byte_fallback: fallback } = model;
  if (type !== 'BPE' || !isJsonObject(vocab)) return () => 0;
  const alphabet = isByteLevel(splitter) ? byteAlphabet() : undefined;
  const needed = alphabet?.keys() ?? (fallback === true ? fallbackTokens() : undefined);
  // A character without a token is dropped, or a run of any length becomes one unknown token.
  if (!needed || ![...needed].every((token) => Object.hasOwn(vocab, token))) return () => 0;
  const lengthOf = (token: string) => (alphabet ? tokenBytes(token, alphabet).length : Buffer.byteLength(token));
  const lengths = [...Object.keys(vocab).map(lengthOf), ...added.map((token) => Buffer.byteLength(token.content))];
  const longest = shrinks * lengths.reduce((most, length) => Math.max(most, length), 1);
  // Such a token takes all the whitespace beside it.
  const strips = added.some(({ lstrip, rstrip }) => lstrip === true || rstrip === true);
  return (text) => Math.ceil(Buffer.byteLength(strips ? text.replace(WHITESPACE, '') : text) / longest);
}

/** How many times shorter it can make a text; undefined if there is no saying. */
function normalizerShrinks(normalizer: unknown): number | undefined {
  if (normalizer === undefined || normalizer === null) return 1;
  if (!isJsonObject(normalizer)) return undefined;
  const { type, normalizers, pattern, content } = normalizer;
  if (type === 'NFC') return NFC_SHRINKS;
  if (type === 'Prepend') return 1;
  if (type === 'Sequence' && Array.isArray(normalizers))
    return normalizers.map(normalizerShrinks).reduce((all, one) => (all === undefined || one === undefined ? undefined : all * one), 1);
  if (type !== 'Replace' || !isJsonObject(pattern) || typeof content !== 'string') return undefined;
  const { String: replaced } = pattern;
  return typeof replaced === 'string' && Buffer.byteLength(replaced) <= Buffer.byteLength(content) ? 1 : undefined;
}

function keepsText(splitter: unknown): boolean {
  if (splitter === undefined || splitter === null) return true;
  if (!isJsonObject(splitter)) return false;
  const { type, pretokenizers, behavior } = splitter;
  if (type === 'Sequence') return Array.isArray(pretokenizers) && pretokenizers.every(keepsText);
  return KEEPING.has(type) || (type === 'Split' && behavior !== 'Removed');
}

function isByteLevel(splitter: unknown): boolean {
  if (!isJsonObject(splitter)) return false;
  const { type, pretokenizers } = splitter;
  return type === 'ByteLevel' || (type === 'Sequence' && Array.isArray(pretokenizers) && pretokenizers.some(isByteLevel));
}

const fallbackTokens = () => Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
