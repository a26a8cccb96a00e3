import { join } from 'node:path';
import { FormatError } from '../util/errors.ts';
import { isJsonObject, type JsonObject, parseJsonObject, readTextIfPresent } from './read-file.ts';
import { isTokenId } from './vocabulary.ts';

/** A token that is found in the text before anything else looks at it. Field names and meaning as in `tokenizer.json`. */
export interface AddedToken {
  readonly content: string;
  readonly single_word: boolean;
  readonly lstrip: boolean;
  readonly rstrip: boolean;
  readonly normalized: boolean;
  readonly special: boolean;
}

export type SpecialRole = (typeof ROLES)[number];

export interface TokenizerConfig {
  readonly file: string;
  /** All of `tokenizer_config.json`; empty when there is none. */
  readonly settings: JsonObject;
  readonly roles: ReadonlyMap<SpecialRole, AddedToken>;
  /** Special tokens without a role of their own. */
  readonly additional: readonly AddedToken[];
}

const ROLES = ['bos_token', 'eos_token', 'unk_token', 'sep_token', 'pad_token', 'cls_token', 'mask_token'] as const;
/** These hold settings, a few tokens and at most a chat template of some 10 kB. */
const MAX_CONFIG_BYTES = 16 * 2 ** 20;

/** Reads `tokenizer_config.json` and `special_tokens_map.json`; the latter wins, as in the library that writes them. Both may be missing. */
export async function readTokenizerConfig(folder: string): Promise<TokenizerConfig> {
  const file = join(folder, 'tokenizer_config.json');
  const settings = (await readConfigIfPresent(file)) ?? {};
  const mapFile = join(folder, 'special_tokens_map.json');
  const map = (await readConfigIfPresent(mapFile)) ?? {};
  const roles = new Map<SpecialRole, AddedToken>();
  const additional: AddedToken[] = [];
  for (const [source, values] of [
    [file, settings],
    [mapFile, map],
  ] as const) {
    for (const role of ROLES) {
      const value = values[role];
      if (value !== undefined && value !== null) roles.set(role, parseAddedToken(source, role, value, true));
    }
    additional.push(...parseAdditional(source, values['additional_special_tokens']));
  }
  return { file, settings, roles, additional };
}

export async function readConfigIfPresent(file: string): Promise<JsonObject | undefined> {
  const text = await readTextIfPresent(file, MAX_CONFIG_BYTES);
  return text === undefined ? undefined : parseJsonObject(file, text);
}

/** A token is written as its text alone or as an object with flags. */
export function parseAddedToken(file: string, what: string, value: unknown, special: boolean): AddedToken {
  const fields: JsonObject = isJsonObject(value) ? value : { content: value };
  const { content } = fields;
  if (typeof content !== 'string' || content === '')
    throw new FormatError(file, `${what} is ${JSON.stringify(value)}, expected text or an object with "content"`);
  const flag = (name: string, missing: boolean): boolean => {
    const set = fields[name] ?? missing;
    if (typeof set !== 'boolean') throw new FormatError(file, `${what}: "${name}" is ${JSON.stringify(set)}, expected true or false`);
    return set;
  };
  return {
    content,
    single_word: flag('single_word', false),
    lstrip: flag('lstrip', false),
    rstrip: flag('rstrip', false),
    normalized: flag('normalized', !special),
    special: flag('special', special),
  };
}

function parseAdditional(file: string, value: unknown): AddedToken[] {
  if (value === undefined || value === null) return [];
  if (!Array.isArray(value)) throw new FormatError(file, 'additional_special_tokens is not a list');
  return value.map((token, i) => parseAddedToken(file, `additional_special_tokens[${i}]`, token, true));
}

/** `added_tokens_decoder` of newer files: id to token. */
export function statedInConfig({ file, settings }: TokenizerConfig): (AddedToken & { readonly id: number })[] {
  const { added_tokens_decoder: decoder } = settings;
  if (decoder === undefined) return [];
  if (!isJsonObject(decoder)) throw new FormatError(file, 'added_tokens_decoder is not an object of id to token');
  return Object.entries(decoder).map(([key, value]) => {
    const what = `added_tokens_decoder[${JSON.stringify(key)}]`;
    if (!/^\d+$/.test(key) || !isTokenId(Number(key))) throw new FormatError(file, `${what}: the key is not a token id`);
    return { ...parseAddedToken(file, what, value, false), id: Number(key) };
  });
}

/** `added_tokens.json`: token to id. */
export async function readAddedTokens(file: string): Promise<(AddedToken & { readonly id: number })[]> {
  const tokens = (await readConfigIfPresent(file)) ?? {};
  return Object.entries(tokens).map(([content, id]) => {
    if (!isTokenId(id)) throw new FormatError(file, `${JSON.stringify(content)}: ${JSON.stringify(id)} is not a token id`);
    return { ...parseAddedToken(file, JSON.stringify(content), content, false), id };
  });
}

/** A setting that is true or false. @throws {FormatError} */
export function readFlag({ file, settings }: TokenizerConfig, name: string, missing: boolean): boolean {
  const value = settings[name] ?? missing;
  if (typeof value !== 'boolean') throw new FormatError(file, `"${name}" is ${JSON.stringify(value)}, expected true or false`);
  return value;
}
