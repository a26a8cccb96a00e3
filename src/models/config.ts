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
  /** Usually 64 to 256. */
  headDim: 2 ** 12,
  /** Published models have up to 512. */
  experts: 2 ** 12,
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
  /** A whole number of at least `min`, which is 1 unless told. */
  count(key: string, options: { min?: number; max: number; fallback: number }): number;
  /** A whole number of at least 1; null means that there is none. */
  optionalCount(key: string, options: { max: number; fallback: number | undefined }): number | undefined;
  /** A number above 0. */
  positive(key: string, fallback: number): number;
  /** A number above 0; null means that there is none. */
  optionalPositive(key: string, fallback: number | undefined): number | undefined;
  /** As many numbers above 0. */
  positives(key: string, length: number): readonly number[];
  flag(key: string, fallback: boolean): boolean;
  oneOf<const T extends string>(key: string, known: readonly T[], fallback: T): T;
  /** As many names; undefined if there is no such key. */
  names<const T extends string>(key: string, known: readonly T[], length: number): readonly T[] | undefined;
  /** A list of whole numbers from 0; none if there is no such key. */
  layerIndices(key: string): readonly number[];
  /** The keys of an object; undefined if there is none. */
  object(key: string): ConfigReader | undefined;
  /** A token id; null means that there is none. */
  tokenId(key: string, fallback: number | undefined): number | undefined;
  /** One token id or a list of them; null means that there is none. */
  tokenIds(key: string, fallback: readonly number[]): readonly number[];
  /** For what two keys say together. */
  fail(key: string, expected: string): never;
}

/** `path` is that of an object inside the file, such as `rope_scaling.`, for messages. */
export function readConfig(config: Readonly<Record<string, unknown>>, file: string, path = ''): ConfigReader {
  const value = (key: string): unknown => (Object.hasOwn(config, key) ? config[key] : undefined);
  /** Null where the class knows null. */
  const nullable = (key: string, fallback: unknown): unknown => (value(key) === undefined ? fallback : value(key)) ?? undefined;
  const fail = (key: string, expected: string): never => {
    const got = shown(value(key));
    throw new FormatError(file, `"${path}${key}": ${expected} expected, got ${got}`, { key: `${path}${key}`, expected, got });
  };
  const check = <T>(key: string, got: unknown, is: (got: unknown) => got is T, expected: string): T =>
    is(got) ? got : fail(key, expected);
  return {
    count: (key, { min = 1, max, fallback }) =>
      check(key, value(key) ?? fallback, isInteger(min, max), `a whole number from ${min} to ${max}`),
    optionalCount: (key, { max, fallback }) =>
      check(key, nullable(key, fallback), orNothing(isInteger(1, max)), `a whole number from 1 to ${max}, or null,`),
    positive: (key, fallback) => check(key, value(key) ?? fallback, isPositive, 'a number above 0'),
    optionalPositive: (key, fallback) => check(key, nullable(key, fallback), orNothing(isPositive), 'a number above 0, or null,'),
    positives: (key, length) => check(key, value(key), isListOf(isPositive, length), `a list of ${length} numbers above 0`),
    flag: (key, fallback) => check(key, value(key) ?? fallback, isBoolean, 'true or false'),
    oneOf: (key, known, fallback) => check(key, value(key) ?? fallback, isAmong(known), `one of ${known.join(', ')}`),
    names: (key, known, length) =>
      check(key, value(key) ?? undefined, orNothing(isListOf(isAmong(known), length)), `a list of ${length} of ${known.join(', ')}`),
    layerIndices: (key) => check(key, value(key) ?? [], isListOf(isInteger(0, LIMITS.layers)), 'a list of layer numbers'),
    object(key) {
      const keys = check(key, value(key) ?? undefined, orNothing(isObject), 'an object');
      return keys && readConfig(keys, file, `${path}${key}.`);
    },
    tokenId: (key, fallback) => check(key, nullable(key, fallback), orNothing(isTokenId), 'a token id'),
    tokenIds(key, fallback) {
      const ids = nullable(key, fallback) ?? [];
      const list: unknown = Array.isArray(ids) ? ids : [ids];
      return check(key, list, isListOf(isTokenId), 'a token id or a list of them');
    },
    fail,
  };
}

type Test<T> = (value: unknown) => value is T;

const isInteger =
  (min: number, max: number): Test<number> =>
  (value): value is number =>
    typeof value === 'number' && Number.isInteger(value) && value >= min && value <= max;
const isTokenId = isInteger(0, LIMITS.vocabularySize);
const isPositive: Test<number> = (value): value is number => typeof value === 'number' && value > 0 && Number.isFinite(value);
const isBoolean: Test<boolean> = (value): value is boolean => typeof value === 'boolean';
const isObject: Test<Readonly<Record<string, unknown>>> = (value): value is Readonly<Record<string, unknown>> =>
  typeof value === 'object' && value !== null && !Array.isArray(value);

function isAmong<T extends string>(known: readonly T[]): Test<T> {
  return (value): value is T => known.some((name) => name === value);
}

/** A list of `length`, or of any. */
function isListOf<T>(is: Test<T>, length?: number): Test<readonly T[]> {
  return (value): value is readonly T[] => Array.isArray(value) && value.length === (length ?? value.length) && value.every(is);
}

function orNothing<T>(is: Test<T>): Test<T | undefined> {
  return (value): value is T | undefined => value === undefined || is(value);
}

function shown(value: unknown): string {
  if (value === undefined) return 'nothing';
  const text = JSON.stringify(value);
  return text.length > MAX_SHOWN_CHARACTERS ? `${text.slice(0, MAX_SHOWN_CHARACTERS)}...` : text;
}
