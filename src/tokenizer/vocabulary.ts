import { FormatError } from '../util/errors.ts';
import { isJsonObject, type JsonObject } from './read-file.ts';

export type Vocabulary = Readonly<Record<string, number>>;

/** Tables by id are sized by the largest id, so one wrong id must not cost gigabytes. Real vocabularies end near 300,000. */
export const MAX_TOKEN_ID: number = 2 ** 22 - 1;

/** @throws {FormatError} unless every value is a token id and no id is used twice */
export function checkVocabulary(file: string, vocabulary: unknown): Vocabulary {
  if (!isJsonObject(vocabulary)) throw new FormatError(file, 'vocabulary is not an object of token to id');
  const tokens = Object.keys(vocabulary);
  if (tokens.length === 0) throw new FormatError(file, 'vocabulary is empty');
  const owners = new Map<number, string>();
  for (const token of tokens) {
    const id = vocabulary[token];
    if (!isTokenId(id))
      throw new FormatError(file, `token ${JSON.stringify(token)}: id ${JSON.stringify(id)} is no integer from 0 to ${MAX_TOKEN_ID}`);
    const owner = owners.get(id);
    if (owner !== undefined) throw new FormatError(file, `id ${id} belongs to ${JSON.stringify(owner)} and to ${JSON.stringify(token)}`);
    owners.set(id, token);
  }
  return vocabulary as Vocabulary;
}

export const isTokenId = (value: unknown): value is number =>
  Number.isInteger(value) && Number(value) >= 0 && Number(value) <= MAX_TOKEN_ID;

/** Largest id of the model's part of a `tokenizer.json`, which is -1 if it has none. Unigram models number their pieces from 0. */
export function largestModelId(file: string, model: JsonObject): number {
  const { vocab } = model;
  if (!Array.isArray(vocab)) return Object.values(checkVocabulary(file, vocab)).reduce((largest, id) => Math.max(largest, id), -1);
  if (!vocab.every((piece) => Array.isArray(piece) && typeof piece[0] === 'string' && typeof piece[1] === 'number'))
    throw new FormatError(file, 'vocabulary is not a list of pieces and scores');
  if (vocab.length > MAX_TOKEN_ID) throw new FormatError(file, `vocabulary has ${vocab.length} pieces, at most ${MAX_TOKEN_ID} are read`);
  return vocab.length - 1;
}
