/** Writes a tokenizer as llama.cpp reads it: the `tokenizer.ggml.*` entries of a GGUF file. */
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import { isJsonObject, type JsonObject } from '../tokenizer/read-file.ts';
import { checkVocabulary } from '../tokenizer/vocabulary.ts';
import { FormatError } from '../util/errors.ts';

export interface VocabularySource {
  /** For messages. */
  readonly file: string;
  /** As a `tokenizer.json` has it. */
  readonly content: JsonObject;
  /** Texts of special tokens by role: `bos_token`, `eos_token`, `unk_token`, `pad_token`. */
  readonly roles: ReadonlyMap<string, string>;
  /** Of the model; what the tokenizer lacks is filled with tokens that never occur. */
  readonly vocabularySize: number;
}

/** Of `token_type` in llama.cpp. */
const TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;
const ROLES = { bos_token: 'bos', eos_token: 'eos', unk_token: 'unknown', pad_token: 'padding' } as const;
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

/**
 * Byte-level BPE and BPE with byte fallback; empty for tokenizers that llama.cpp would take for another one. It knows ways of splitting
 * text only by name, takes no tokens beyond the model's table, and puts a space before text that begins with one, which SentencePiece does and transformers without `legacy` does not.
 * @throws {FormatError} naming what is wrong in the content
 */
export function ggmlVocabulary(source: VocabularySource): Map<string, GgufEntry> {
  const { file, content } = source;
  const { model } = content;
  if (!isJsonObject(model)) throw new FormatError(file, 'has no "model"');
  if (model['type'] !== 'BPE') return new Map();
  const merges = readMerges(file, model['merges']);
  const table = tokenTable(source, model);
  if (!table) return new Map();
  const pre = splitterName(content, model['ignore_merges'] === true);
  const isPieces = model['byte_fallback'] === true && BYTES.every((byte) => table.ids.has(byte));
  const kind = isPieces ? pieceEntries(content, table, merges) : pre === undefined ? undefined : byteLevelEntries(pre, merges);
  if (!kind) return new Map();
  const [first, last] = tokensAround(content['post_processor']);
  const entries: [string, GgufEntry][] = [
    ...kind,
    ['tokens', { type: 'string[]', value: table.tokens }],
    ['token_type', { type: 'i32[]', value: table.types }],
    ...roleIds(new Map([...source.roles, ...(first === undefined ? [] : [['bos_token', first] as const])]), table.ids),
    ['add_bos_token', { type: 'bool', value: first !== undefined }],
    ['add_eos_token', { type: 'bool', value: last !== undefined }],
  ];
  return new Map(entries.map(([name, entry]) => [`tokenizer.ggml.${name}`, entry]));
}

type Entries = [string, GgufEntry][];

interface TokenTable {
  readonly tokens: readonly string[];
  readonly types: readonly number[];
  readonly ids: ReadonlyMap<string, number>;
}

/** Undefined when the tokenizer has ids that the model lacks. */
function tokenTable({ file, content, vocabularySize }: VocabularySource, model: JsonObject): TokenTable | undefined {
  const ids = new Map(Object.entries(checkVocabulary(file, model['vocab'])));
  const types = new Map<number, number>();
  const { unk_token: unknown, byte_fallback: fallback } = model;
  for (const [token, id] of ids) if (fallback === true && BYTE_TOKEN.test(token)) types.set(id, TYPE.byte);
  for (const { content: token, id, special } of addedTokens(file, content['added_tokens'])) {
    ids.set(token, id);
    types.set(id, special ? TYPE.control : TYPE.userDefined);
  }
  const unknownId = typeof unknown === 'string' ? ids.get(unknown) : undefined;
  if (unknownId !== undefined) types.set(unknownId, TYPE.unknown);
  const tokens = Array.from({ length: vocabularySize }, (_, id) => `[PAD${id}]`);
  const known = Array.from(tokens, () => false);
  for (const [token, id] of ids) {
    if (id >= vocabularySize) return undefined;
    tokens[id] = token;
    known[id] = true;
  }
  return { tokens, types: known.map((is, id) => (is ? (types.get(id) ?? TYPE.normal) : TYPE.unused)), ids };
}

function addedTokens(file: string, added: unknown): { content: string; id: number; special: boolean }[] {
  return (Array.isArray(added) ? (added as unknown[]) : []).map((token, i) => {
    const { content, id, special } = isJsonObject(token) ? token : {};
    if (typeof content !== 'string' || typeof id !== 'number' || !Number.isInteger(id) || id < 0)
      throw new FormatError(file, `added_tokens[${i}] has no content or no id`);
    return { content, id, special: special === true };
  });
}

/** Pairs, in older files with one space between them. */
function readMerges(file: string, merges: unknown): (readonly [string, string])[] {
  if (!Array.isArray(merges)) throw new FormatError(file, 'has no list of merges');
  return (merges as unknown[]).map((merge, i) => {
    const [left, right, more]: unknown[] = typeof merge === 'string' ? merge.split(' ') : Array.isArray(merge) ? merge : [];
    if (typeof left !== 'string' || typeof right !== 'string' || more !== undefined)
      throw new FormatError(file, `merge ${i} is no pair of tokens`);
    return [left, right];
  });
}

const byteLevelEntries = (pre: string, merges: readonly (readonly [string, string])[]): Entries => [
  ['model', { type: 'string', value: 'gpt2' }],
  ['pre', { type: 'string', value: pre }],
  ['merges', { type: 'string[]', value: merges.map((pair) => pair.join(' ')) }],
];

/** llama.cpp merges the neighbours whose piece has the highest score, so the score is the place of the piece's first merge. */
function pieceEntries(content: JsonObject, { tokens }: TokenTable, merges: readonly (readonly [string, string])[]): Entries {
  const ranks = new Map<string, number>();
  for (const [rank, [left, right]] of merges.entries()) if (!ranks.has(left + right)) ranks.set(left + right, rank);
  return [
    ['model', { type: 'string', value: 'llama' }],
    ['pre', { type: 'string', value: 'default' }],
    ['scores', { type: 'f32[]', value: tokens.map((token) => -(ranks.get(token) ?? merges.length)) }],
    ['add_space_prefix', { type: 'bool', value: addsSpace(content['normalizer']) || addsSpace(content['pre_tokenizer']) }],
    // llama.cpp assumes that spaces are kept, which is so here: only Unigram models remove them.
    ['remove_extra_whitespaces', { type: 'bool', value: false }],
  ];
}

function addsSpace(step: unknown): boolean {
  return parts(step).some(({ type, prepend_scheme: scheme }) => type === 'Prepend' || (type === 'Metaspace' && scheme !== 'never'));
}

/** The members of a sequence, or the one step there is. */
function parts(step: unknown): readonly JsonObject[] {
  if (!isJsonObject(step)) return [];
  const members = step['normalizers'] ?? step['pretokenizers'] ?? step['processors'];
  return Array.isArray(members) ? members.flatMap(parts) : [step];
}

const CONTRACTIONS = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|`;
const REST = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;

/** llama.cpp's name for the way in which a byte-level tokenizer splits text; undefined where none is sure to be right. */
function splitterName({ pre_tokenizer: splitter }: JsonObject, ignoresMerges: boolean): string | undefined {
  const steps = parts(splitter);
  const [first, second] = steps;
  const last = steps.at(-1);
  if (!first || last?.['type'] !== 'ByteLevel' || last['add_prefix_space'] === true) return undefined;
  const usesRegex = last['use_regex'] !== false;
  if (steps.length === 1) return usesRegex && !ignoresMerges ? 'gpt-2' : undefined;
  if (steps.length > 2 || second !== last) return undefined;
  if (first['type'] === 'Digits') return usesRegex && !ignoresMerges && first['individual_digits'] === true ? 'smollm' : undefined;
  const { type, pattern, behavior, invert } = first;
  if (type !== 'Split' || usesRegex || behavior !== 'Isolated' || invert === true || !isJsonObject(pattern)) return undefined;
  const { Regex: regex } = pattern;
  // Names with the same pattern differ in whether a whole word that is a token is taken without its merges.
  if (regex === `${CONTRACTIONS}\\p{N}{1,3}${REST}`) return ignoresMerges ? 'llama-bpe' : 'dbrx';
  return regex === `${CONTRACTIONS}\\p{N}${REST}` && !ignoresMerges ? 'qwen2' : undefined;
}

/** Texts of the special tokens that are put in front of a text and behind it. */
function tokensAround(processor: unknown): [first: string | undefined, last: string | undefined] {
  const single = parts(processor).find(({ type }) => type === 'TemplateProcessing')?.['single'];
  if (!Array.isArray(single)) return [undefined, undefined];
  const nameOf = (piece: unknown) => {
    const special = isJsonObject(piece) ? piece['SpecialToken'] : undefined;
    return isJsonObject(special) && typeof special['id'] === 'string' ? special['id'] : undefined;
  };
  return [nameOf(single[0]), nameOf(single.at(-1))];
}

function roleIds(roles: ReadonlyMap<string, string>, ids: ReadonlyMap<string, number>): Entries {
  return Object.entries(ROLES).flatMap(([role, name]): Entries => {
    const token = roles.get(role);
    const id = token === undefined ? undefined : ids.get(token);
    return id === undefined ? [] : [[`${name}_token_id`, { type: 'u32', value: id }]];
  });
}

const BYTES = Array.from({ length: 256 }, (_, byte) => `<0x${byte.toString(16).toUpperCase().padStart(2, '0')}>`);
