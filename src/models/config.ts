import { FormatError } from '../util/errors.ts';

/** Limits for values of a `config.json`, so that a wrong or hostile file cannot make us reserve absurd amounts of memory. */
export const LIMITS = {
  /** The widest published models have 20,480. */
  hiddenSize: 2 ** 17,
  /** Usually 4 times the hidden size; mixtures of experts have less. */
  feedForwardSize: 2 ** 19,
  /** The deepest published models have 126. */
  layers: 1024,
  heads: 2 ** 12,
  /** The largest published vocabularies have 262,208. */
  vocabularySize: 2 ** 22,
  /** Ten million positions are claimed by published models. */
  contextLength: 2 ** 24,
} as const;

/** A longer value is cut in messages. */
const MAX_SHOWN_CHARACTERS = 80;

/**
 * Checked access to the keys of one parsed `config.json`. A key that is missing, or null where the class knows no null, has the
 * default of the transformers class. Every method throws a FormatError with file, key, what was expected and what was found.
 */
export interface ConfigReader {
  /** A whole number of at least 1. */
  count(key: string, options: { max: number; fallback: number }): number;
  flag(key: string, fallback: boolean): boolean;
  oneOf<const T extends string>(key: string, known: readonly T[], fallback: T): T;
  /** A token id; null means that there is none. */
  tokenId(key: string, fallback: number): number | undefined;
  /** One token id or a list of them; null means that there is none. */
  tokenIds(key: string, fallback: readonly number[]): readonly number[];
  /** For what two keys say together. */
  fail(key: string, expected: string): never;
}

export function readConfig(config: Readonly<Record<string, unknown>>, file: string): ConfigReader {
  const value = (key: string): unknown => (Object.hasOwn(config, key) ? config[key] : undefined);
  const fail = (key: string, expected: string): never => {
    const got = shown(value(key));
    throw new FormatError(file, `"${key}": ${expected} expected, got ${got}`, { key, expected, got });
  };
  return {
    count(key, { max, fallback }) {
      const n = value(key) ?? fallback;
      return isInteger(n, 1, max) ? n : fail(key, `a whole number from 1 to ${max}`);
    },
    flag(key, fallback) {
      const on = value(key) ?? fallback;
      return typeof on === 'boolean' ? on : fail(key, 'true or false');
    },
    oneOf(key, known, fallback) {
      const name = value(key) ?? fallback;
      return known.find((k) => k === name) ?? fail(key, `one of ${known.join(', ')}`);
    },
    tokenId(key, fallback) {
      const id = value(key) === undefined ? fallback : value(key);
      if (id === null) return undefined;
      return isTokenId(id) ? id : fail(key, 'a token id');
    },
    tokenIds(key, fallback) {
      const ids = value(key) === undefined ? fallback : value(key);
      if (ids === null) return [];
      const list: readonly unknown[] = Array.isArray(ids) ? ids : [ids];
      return list.every(isTokenId) ? list : fail(key, 'a token id or a list of them');
    },
    fail,
  };
}

const isInteger = (value: unknown, min: number, max: number): value is number =>
  typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
const isTokenId = (value: unknown): value is number => isInteger(value, 0, LIMITS.vocabularySize);

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}...` : text;
}
