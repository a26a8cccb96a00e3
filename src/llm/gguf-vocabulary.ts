/** Checks the vocabulary of a GGUF file: llama.cpp ends the process on some that are wrong. */
import type { GgufMetadata, GgufValue } from '../formats/gguf/gguf-metadata.ts';
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import { quote } from '../formats/quote.ts';
import type { SentencePieces } from '../tokenizer/llama-vocabulary.ts';
import { FormatError } from '../util/errors.ts';

export interface CheckedVocabulary {
  /** Metadata of a GGUF file with nothing but the vocabulary. */
  readonly entries: ReadonlyMap<string, GgufEntry>;
  /** Missing for byte-level vocabularies. */
  readonly sentencePieces?: SentencePieces;
}

/** Real vocabularies end near 300,000. */
const MAX_TOKENS = 2 ** 22;
/** UTF-16 units. The longest tokens of real vocabularies are runs of some hundred spaces. */
const MAX_TOKEN_LENGTH = 4096;
/** Of `token_type`: normal 1, unknown 2, control 3, user-defined 4, unused 5, byte 6. */
const MAX_TOKEN_TYPE = 6;
const BYTE_TYPE = 6;
const PREFIX = 'tokenizer.ggml.';
/** SentencePiece with byte fallback, and byte-level BPE. */
const MODELS: ReadonlySet<unknown> = new Set(['llama', 'gpt2']);
const SPECIAL_IDS = ['bos', 'eos', 'eot', 'eom', 'unknown', 'fim_pad', 'fim_rep', 'fim_sep'] as const;
const FLAGS = ['add_bos_token', 'add_eos_token', 'add_space_prefix', 'remove_extra_whitespaces'] as const;

/** @throws {FormatError} naming the key and what is wrong with it */
export function checkVocabularyMetadata(file: string, metadata: GgufMetadata): CheckedVocabulary {
  const get = (name: string) => metadata.get(PREFIX + name);
  const fail = (name: string, problem: string): never => {
    throw new FormatError(file, `${PREFIX}${name} ${problem}`);
  };
  const model = get('model');
  if (typeof model !== 'string' || !MODELS.has(model))
    return fail('model', `is ${show(model)}; vocabularies of ${[...MODELS].join(' and ')} are read`);
  const entries = new Map<string, GgufEntry>([['general.architecture', { type: 'string', value: 'llama' }]]);
  const put = (name: string, entry: GgufEntry) => entries.set(PREFIX + name, entry);
  // llama.cpp knows by the name which models strip the spaces beside special tokens.
  const name = metadata.get('general.name');
  if (typeof name === 'string') entries.set('general.name', { type: 'string', value: name });
  put('model', { type: 'string', value: model });
  const pre = get('pre');
  if (pre !== undefined) put('pre', typeof pre === 'string' ? { type: 'string', value: pre } : fail('pre', 'is no string'));
  const tokens = checkTokens(get('tokens'), fail);
  put('tokens', { type: 'string[]', value: tokens });
  const scores = numbers('scores', get('scores'), tokens.length, fail);
  if (scores) put('scores', { type: 'f32[]', value: scores });
  const types = numbers('token_type', get('token_type'), tokens.length, fail);
  if (types) put('token_type', { type: 'i32[]', value: checkTypes(types, tokens, fail) });
  if (model === 'gpt2') put('merges', { type: 'string[]', value: checkMerges(get('merges'), fail) });
  else checkBytes(tokens, scores, fail);
  for (const role of SPECIAL_IDS) {
    const key = `${role}_token_id`;
    const id = get(key);
    if (id === undefined) continue;
    if (!isInteger(id, tokens.length - 1)) fail(key, `is ${show(id)}, an id below ${tokens.length} expected`);
    put(key, { type: 'u32', value: id as number });
  }
  for (const key of FLAGS) {
    const flag = get(key);
    if (flag === undefined) continue;
    put(key, { type: 'bool', value: typeof flag === 'boolean' ? flag : fail(key, `is ${show(flag)}, true or false expected`) });
  }
  return { entries, ...(model === 'llama' && { sentencePieces: { tokens, dropsFirstSpace: get('add_space_prefix') !== false } }) };
}

type Fail = (name: string, problem: string) => never;

function checkTokens(tokens: GgufValue | undefined, fail: Fail): readonly string[] {
  if (!isStrings(tokens) || tokens.length === 0) return fail('tokens', 'is no list of strings');
  if (tokens.length > MAX_TOKENS) fail('tokens', `has ${tokens.length} entries, at most ${MAX_TOKENS} are read`);
  const owners = new Map<string, number>();
  for (const [id, token] of tokens.entries()) {
    if (token.length > MAX_TOKEN_LENGTH) fail('tokens', `entry ${id} has ${token.length} characters, at most ${MAX_TOKEN_LENGTH} are read`);
    const spelling = llamaSpelling(token, id);
    const owner = owners.get(spelling);
    if (owner !== undefined) fail('tokens', `entries ${owner} and ${id} are both ${quote(spelling)}`);
    owners.set(spelling, id);
  }
  return tokens;
}

/** llama.cpp ends a token at the first zero, gives empty ones a name, and ends the process when two are the same then. */
function llamaSpelling(token: string, id: number): string {
  const end = token.indexOf('\0');
  return (end < 0 ? token : token.slice(0, end)) || `[EMPTY_${id}]`;
}

function numbers(name: string, values: GgufValue | undefined, count: number, fail: Fail): readonly number[] | undefined {
  if (values === undefined) return undefined;
  if (!Array.isArray(values) || values.length !== count) return fail(name, `is no list of ${count} numbers, one for each token`);
  const wrong = values.findIndex((value) => typeof value !== 'number' || !Number.isFinite(value));
  if (wrong >= 0) fail(name, `entry ${wrong} is ${String(values[wrong])}, a number expected`);
  return values as readonly number[];
}

function checkTypes(types: readonly number[], tokens: readonly string[], fail: Fail): readonly number[] {
  for (const [id, type] of types.entries()) {
    if (!isInteger(type, MAX_TOKEN_TYPE)) fail('token_type', `entry ${id} is ${type}, 0 to ${MAX_TOKEN_TYPE} expected`);
    if (type === BYTE_TYPE && !/^<0x[0-9A-Fa-f]{2}>$/.test(tokens[id]!))
      fail('token_type', `entry ${id} says that ${quote(tokens[id]!)} is a byte, which is spelt as <0x0A>`);
  }
  return types;
}

function checkMerges(merges: GgufValue | undefined, fail: Fail): readonly string[] {
  if (!isStrings(merges)) return fail('merges', 'is no list of strings');
  for (const [i, merge] of merges.entries()) {
    const space = merge.indexOf(' ', 1);
    if (space < 0 || space === merge.length - 1 || merge.length > 2 * MAX_TOKEN_LENGTH || merge.includes('\0'))
      fail('merges', `entry ${i} is ${quote(merge)}, two tokens and a space between them expected`);
  }
  return merges;
}

/** A character without a token falls back to its bytes; one without a token ends the process. */
function checkBytes(tokens: readonly string[], scores: readonly number[] | undefined, fail: Fail): void {
  if (!scores) fail('scores', 'is missing');
  const known = new Set(tokens);
  for (let byte = 0; byte < 256; byte++) {
    const token = `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`;
    if (!known.has(token)) fail('tokens', `has no ${token}`);
  }
}

const isStrings = (value: GgufValue | undefined): value is readonly string[] =>
  Array.isArray(value) && value.every((element) => typeof element === 'string');
const isInteger = (value: GgufValue, most: number): boolean =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 && value <= most;
const show = (value: GgufValue | undefined): string =>
  typeof value === 'string' ? quote(value) : Array.isArray(value) ? 'a list' : String(value);
