import { join } from 'node:path';
import type { Tokenizer as Binding } from 'tokenizers';
import { FormatError, NativeError } from '../util/errors.ts';
import { byteLevelDetokenizer } from './byte-level.ts';
import type { Detokenizer, StreamDecoder } from './detokenizer.ts';
import { readGpt2Files } from './gpt2-files.ts';
import { guardLibrary } from './library-guards.ts';
import { readSentencePieceFiles } from './sentencepiece-files.ts';
import { type PieceDecoder, pieceDetokenizer } from './piece-decoder.ts';
import { isJsonObject, type JsonObject, parseJsonObject, readTextIfPresent } from './read-file.ts';
import { readTokenizerConfig } from './special-tokens.ts';
import { type TokenBound, tokenBound } from './token-bound.ts';
import { largestModelId } from './vocabulary.ts';

/** Text to token ids and back. Immutable; calls may overlap. */
export interface Tokenizer {
  /** All ids are below this. The model's vocabulary may be larger. */
  readonly vocabularySize: number;
  /** Ids that `skipSpecialTokens` leaves out. */
  readonly specialIds: ReadonlySet<number>;
  /** Ids of a prompt, with the special tokens that the model wants around it. */
  encode(text: string): Promise<Int32Array>;
  /** Ids of the text alone. Special tokens written out in it are still recognised. */
  encodeRaw(text: string): Promise<Int32Array>;
  /** `encode` gives at least so many ids; 0 where it must be tried. Costs next to nothing, while encoding takes over 100 bytes a character. */
  readonly minTokens: TokenBound;
  /** Unknown ids give no text. */
  decode(ids: ArrayLike<number>, options?: DecodeOptions): string;
  streamDecoder(options?: DecodeOptions): StreamDecoder;
  /** Text of one token for display, special ones included; U+FFFD for a part of a character. */
  tokenText(id: number): string;
}

export interface DecodeOptions {
  /** Default true. */
  readonly skipSpecialTokens?: boolean;
}

/** The largest in use has 35 MB. */
const MAX_TOKENIZER_JSON_BYTES = 256 * 2 ** 20;

/**
 * The tokenizer of a model folder: `tokenizer.json`, else `vocab.json` and `merges.txt`, else `tokenizer.model`, all with the settings beside them.
 * Undefined when the folder has none of these files; such a model serves prompts of token ids.
 * @throws {FormatError} naming the file and what is wrong in it
 */
export async function loadTokenizer(folder: string): Promise<Tokenizer | undefined> {
  const found = await readTokenizerContent(folder);
  return found && createTokenizer(found.file, found.content, found.text);
}

/** What a tokenizer is made of. */
export interface TokenizerContent {
  /** Where it was found, for messages. */
  readonly file: string;
  /** As in a `tokenizer.json`. */
  readonly content: JsonObject;
  /** What `content` was parsed from. */
  readonly text: string;
}

/** The files of `loadTokenizer` as one `tokenizer.json`. @throws {FormatError} */
export async function readTokenizerContent(folder: string): Promise<TokenizerContent | undefined> {
  const file = join(folder, 'tokenizer.json');
  const config = await readTokenizerConfig(folder);
  const text = await readTextIfPresent(file, MAX_TOKENIZER_JSON_BYTES);
  if (text !== undefined) return { file, content: parseJsonObject(file, text), text };
  const gpt2 = await readGpt2Files(folder, config);
  if (gpt2) return { file: join(folder, 'vocab.json'), content: gpt2, text: JSON.stringify(gpt2) };
  const pieces = await readSentencePieceFiles(folder, config);
  return pieces && { file: join(folder, 'tokenizer.model'), content: pieces, text: JSON.stringify(pieces) };
}

/** The tokenizer in the text of a `tokenizer.json`. @param file where it stands, for messages. @throws {FormatError} */
export async function parseTokenizer(file: string, text: string): Promise<Tokenizer> {
  return createTokenizer(file, parseJsonObject(file, text), text);
}

/** @param content what `text` parses to */
async function createTokenizer(file: string, content: JsonObject, text: string): Promise<Tokenizer> {
  const { model, added_tokens: added = [] } = content;
  if (!isJsonObject(model)) throw new FormatError(file, 'has no "model"');
  if (!isAddedTokens(added)) throw new FormatError(file, '"added_tokens" is not a list of tokens');
  const largestId = largestModelId(file, model);
  guardLibrary(file, content);
  const binding = await createBinding(file, text);
  const tokens = listTokens(binding, largestId + 1 + added.length);
  const specials = added.filter(({ special }) => special === true).map(({ content: token }) => binding.tokenToId(token));
  const specialIds = new Set(specials.filter((id) => id !== null));
  return {
    vocabularySize: tokens.length,
    specialIds,
    ...encoderOf(binding),
    minTokens: tokenBound(content, added),
    ...decoderOf(createDetokenizer(binding, content['decoder'], tokens, specialIds)),
  };
}

function encoderOf(binding: Binding): Pick<Tokenizer, 'encode' | 'encodeRaw'> {
  const encode = async (text: string, addSpecialTokens: boolean) =>
    Int32Array.from((await binding.encode(text, null, { addSpecialTokens })).getIds());
  return {
    encode: (text) => encode(text, true),
    encodeRaw: (text) => encode(text, false),
  };
}

export function decoderOf(detokenizer: Detokenizer): Pick<Tokenizer, 'decode' | 'streamDecoder' | 'tokenText'> {
  return {
    decode: (ids, { skipSpecialTokens = true } = {}) => detokenizer.decode(ids, skipSpecialTokens),
    streamDecoder: ({ skipSpecialTokens = true } = {}) => detokenizer.stream(skipSpecialTokens),
    tokenText: (id) => detokenizer.decode([id], false),
  };
}

async function createBinding(file: string, text: string): Promise<Binding> {
  // Loaded on first use: a model without a tokenizer, or a command without a model, works where the library does not.
  const library = await import('tokenizers').catch((cause: unknown) => {
    throw new NativeError(`the tokenizers library does not load on ${process.platform}-${process.arch}`, {}, { cause });
  });
  try {
    const binding = library.Tokenizer.fromString(text);
    // Prompts are never cut or padded here, whatever the file says; its author's settings are for training.
    binding.disableTruncation();
    binding.disablePadding();
    return binding;
  } catch (cause) {
    throw new FormatError(file, `is not a tokenizer: ${(cause as Error).message}`, {}, { cause });
  }
}

/** All tokens by id; `bound` is above the largest. */
function listTokens(binding: Binding, bound: number): (string | null)[] {
  const tokens = Array.from({ length: Math.max(bound, binding.getVocabSize(true)) }, (_, id) => binding.idToToken(id));
  return tokens.slice(0, tokens.findLastIndex((token) => token !== null) + 1);
}

function createDetokenizer(
  binding: Binding,
  decoder: unknown,
  tokens: readonly (string | null)[],
  specialIds: ReadonlySet<number>,
): Detokenizer {
  if (isByteLevel(decoder)) return byteLevelDetokenizer(tokens, specialIds);
  const pieces: PieceDecoder = binding.getDecoder() ?? { decode: (texts) => texts.join(' ') };
  return pieceDetokenizer(pieces, (id) => tokens[id] ?? null, specialIds);
}

function isByteLevel(decoder: unknown): boolean {
  if (!isJsonObject(decoder)) return false;
  const { type, decoders } = decoder;
  return type === 'ByteLevel' || (type === 'Sequence' && Array.isArray(decoders) && decoders.length === 1 && isByteLevel(decoders[0]));
}

const isAddedTokens = (value: unknown): value is { readonly content: string; readonly special?: unknown }[] =>
  Array.isArray(value) && value.every((token) => isJsonObject(token) && typeof token['content'] === 'string');
