import { join } from 'node:path';
import { FormatError } from '../util/errors.ts';
import { type JsonObject, parseJsonObject, readTextIfPresent } from './read-file.ts';
import { type AddedToken, parseAddedToken, readAddedTokens, readFlag, statedInConfig, type TokenizerConfig } from './special-tokens.ts';
import { checkVocabulary, type Vocabulary } from './vocabulary.ts';

/** `vocab.json` of the largest vocabularies in use has 6 MB, `merges.txt` less; beyond this it is some other file. */
const MAX_VOCABULARY_BYTES = 64 * 2 ** 20;
/** Tokenizers whose ids are decided by these files alone. Others share the file names but split or normalise differently. */
const GPT2_CLASSES: ReadonlySet<unknown> = new Set(['GPT2Tokenizer', 'GPT2TokenizerFast', undefined]);
/**
 * Long tokens of `vocab.json` that may have no merge though no file says that they are added. OPT has 7: `<s>`, `<unk>`, `<mask>`,
 * `<|endoftext|>` and three `madeupword`s.
 */
const MAX_UNMERGED = 16;
/** What GPT2Tokenizer assumes for a role that no file names. */
const DEFAULT_TOKEN = '<|endoftext|>';

/**
 * The content of a `tokenizer.json` equal to a GPT-2 byte-level BPE in `vocab.json` and `merges.txt`, which is how the OPT
 * repositories have it; undefined when the folder has neither file.
 * Source: transformers, `GPT2Converter` in convert_slow_tokenizer.py.
 */
export async function readGpt2Files(folder: string, config: TokenizerConfig): Promise<JsonObject | undefined> {
  const vocabularyFile = join(folder, 'vocab.json');
  const mergesFile = join(folder, 'merges.txt');
  const [vocabularyText, mergesText] = await Promise.all([
    readTextIfPresent(vocabularyFile, MAX_VOCABULARY_BYTES),
    readTextIfPresent(mergesFile, MAX_VOCABULARY_BYTES),
  ]);
  if (vocabularyText === undefined && mergesText === undefined) return undefined;
  if (vocabularyText === undefined) throw new FormatError(vocabularyFile, 'is missing, but merges.txt is there');
  if (mergesText === undefined) throw new FormatError(mergesFile, 'is missing, but vocab.json is there');
  checkClass(config);
  const vocab = checkVocabulary(vocabularyFile, parseJsonObject(vocabularyFile, vocabularyText));
  const merges = parseMerges(mergesFile, mergesText, vocab);
  const added = numberTokens(config.file, await collectAddedTokens(folder, config, vocab), vocab);
  checkMerges(mergesFile, merges, vocab, new Set(added.map(({ content }) => content)));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: null,
    pre_tokenizer: byteLevel(readFlag(config, 'add_prefix_space', false)),
    post_processor: postProcessor(config, added),
    decoder: byteLevel(true),
    model: { type: 'BPE', dropout: null, unk_token: null, fuse_unk: false, byte_fallback: false, ignore_merges: false, vocab, merges },
  };
}

const byteLevel = (addPrefixSpace: boolean): JsonObject => ({
  type: 'ByteLevel',
  add_prefix_space: addPrefixSpace,
  trim_offsets: true,
  use_regex: true,
});

function checkClass({ file, settings }: TokenizerConfig): void {
  const { tokenizer_class: name } = settings;
  if (GPT2_CLASSES.has(name)) return;
  throw new FormatError(
    file,
    `tokenizer_class ${JSON.stringify(name)} cannot be built from vocab.json and merges.txt; tokenizer.json is needed`,
  );
}

/** One pair a line, after a line with the version. A pair may itself begin with `#`. */
function parseMerges(file: string, text: string, vocabulary: Vocabulary): [string, string][] {
  const merges: [string, string][] = [];
  for (const [i, raw] of text.split('\n').entries()) {
    const line = raw.endsWith('\r') ? raw.slice(0, -1) : raw;
    if (line === '' || (i === 0 && line.startsWith('#version'))) continue;
    const [left, right, ...rest] = line.split(' ');
    if (!left || !right || rest.length > 0)
      throw new FormatError(file, `line ${i + 1} is ${JSON.stringify(line.slice(0, 80))}, expected two tokens and one space between them`);
    for (const token of [left, right, left + right])
      if (!Object.hasOwn(vocabulary, token)) throw new FormatError(file, `line ${i + 1}: ${JSON.stringify(token)} is not in vocab.json`);
    merges.push([left, right]);
  }
  return merges;
}

/** Without its merges a token is never found: text would silently become other ids than the model was trained with. */
function checkMerges(file: string, merges: readonly [string, string][], vocabulary: Vocabulary, added: ReadonlySet<string>): void {
  const made = new Set(merges.map(([left, right]) => left + right));
  const long = Object.keys(vocabulary).filter((token) => !isOneCharacter(token) && !added.has(token));
  const found = long.filter((token) => made.has(token)).length;
  if (long.length - found > MAX_UNMERGED)
    throw new FormatError(file, `merges for the ${long.length} longer tokens of vocab.json expected, got ${found}; is the file cut off?`);
}

const isOneCharacter = (token: string) => Array.from(token).length === 1;

/** Tokens in the order in which new ids are given, each once; with an id where a file states it. */
async function collectAddedTokens(folder: string, config: TokenizerConfig, vocabulary: Vocabulary): Promise<Map<string, StatedToken>> {
  const collected = new Map<string, StatedToken>();
  const stated = [...statedInConfig(config), ...(await readAddedTokens(join(folder, 'added_tokens.json')))];
  for (const token of stated.toSorted((a, b) => a.id - b.id)) collected.set(token.content, { ...collected.get(token.content), ...token });
  const missing = (['bos_token', 'eos_token', 'unk_token'] as const).filter((role) => !config.roles.has(role));
  const defaults = missing.length > 0 && Object.hasOwn(vocabulary, DEFAULT_TOKEN) ? [parseAddedToken('', '', DEFAULT_TOKEN, true)] : [];
  for (const token of [...config.roles.values(), ...config.additional, ...defaults]) {
    const known = collected.get(token.content);
    collected.set(token.content, known === undefined ? token : { ...known, special: true });
  }
  return collected;
}

type StatedToken = AddedToken & { readonly id?: number };

/** Gives a new token the next id, as every reader of these files does; a stated id that differs would be ignored silently by some. */
function numberTokens(file: string, tokens: ReadonlyMap<string, StatedToken>, vocabulary: Vocabulary): Required<StatedToken>[] {
  let next = Object.keys(vocabulary).length;
  return [...tokens.values()].map((token) => {
    const id = Object.hasOwn(vocabulary, token.content) ? (vocabulary[token.content] as number) : next++;
    if (token.id !== undefined && token.id !== id)
      throw new FormatError(file, `added token ${JSON.stringify(token.content)} has id ${token.id}, expected ${id}`);
    return { ...token, id };
  });
}

/** Only the token in front; GPT-2 tokenizers never append one. */
function postProcessor(config: TokenizerConfig, added: readonly Required<StatedToken>[]): JsonObject {
  if (!readFlag(config, 'add_bos_token', false)) return { ...byteLevel(true), trim_offsets: false };
  const bos = config.roles.get('bos_token')?.content ?? DEFAULT_TOKEN;
  const id = added.find(({ content }) => content === bos)?.id;
  if (id === undefined) throw new FormatError(config.file, `add_bos_token is true, but the bos_token ${JSON.stringify(bos)} has no id`);
  const sequence = (name: string) => [{ SpecialToken: { id: bos, type_id: 0 } }, { Sequence: { id: name, type_id: 0 } }];
  return {
    type: 'TemplateProcessing',
    single: sequence('A'),
    pair: [...sequence('A'), ...sequence('B')],
    special_tokens: { [bos]: { id: bos, ids: [id], tokens: [bos] } },
  };
}
