import { join } from 'node:path';
import { FormatError } from '../util/errors.ts';
import { type JsonObject, readBytesIfPresent } from './read-file.ts';
import { deriveMerges } from './sentencepiece-merges.ts';
import { parseSentencePieceModel, PIECE_TYPE, type SentencePieceModel } from './sentencepiece-model.ts';
import { type AddedToken, parseAddedToken, readAddedTokens, readFlag, statedInConfig, type TokenizerConfig } from './special-tokens.ts';

/** The largest in use, those with 262,144 pieces, have 5 MB. */
const MAX_MODEL_BYTES = 64 * 2 ** 20;
/** Tokenizers that this file decides alone. Others shift its ids or put other tokens around a text. */
const CLASSES: ReadonlySet<unknown> = new Set([
  ...['Llama', 'CodeLlama', 'Gemma'].flatMap((name) => [`${name}Tokenizer`, `${name}TokenizerFast`]),
  undefined,
]);

type NumberedToken = AddedToken & { readonly id: number };

/**
 * The content of a `tokenizer.json` equal to `tokenizer.model` and the settings beside it; undefined when the folder has no such file.
 * Source: transformers, `LlamaConverter` and `GemmaConverter` in convert_slow_tokenizer.py; for unigram models SentencePiece itself.
 */
export async function readSentencePieceFiles(folder: string, config: TokenizerConfig): Promise<JsonObject | undefined> {
  const file = join(folder, 'tokenizer.model');
  const bytes = await readBytesIfPresent(file, MAX_MODEL_BYTES);
  if (bytes === undefined) return undefined;
  const { tokenizer_class: name } = config.settings;
  if (!CLASSES.has(name))
    throw new FormatError(
      config.file,
      `tokenizer_class ${JSON.stringify(name)} cannot be built from tokenizer.model; tokenizer.json is needed`,
    );
  const model = parseSentencePieceModel(file, bytes);
  const addsSpace = readFlag(config, 'add_prefix_space', model.addsSpace);
  // What is called legacy is SentencePiece's own way: a space before every text, and before what follows a special token.
  const isLegacy = model.kind === 'unigram' || readFlag(config, 'legacy', true);
  const added = numberTokens(config, model, await readAddedTokens(join(folder, 'added_tokens.json')));
  return {
    version: '1.0',
    truncation: null,
    padding: null,
    added_tokens: added,
    normalizer: normalizer(model, isLegacy, addsSpace),
    pre_tokenizer: isLegacy ? null : { type: 'Metaspace', replacement: '▁', prepend_scheme: addsSpace ? 'first' : 'never', split: false },
    post_processor: postProcessor(config, model, added),
    decoder: decoder(model, addsSpace),
    model: modelOf(model),
  };
}

function modelOf({ kind, pieces, unknownId, byteFallback }: SentencePieceModel): JsonObject {
  if (kind === 'unigram')
    return { type: 'Unigram', unk_id: unknownId, vocab: pieces.map(({ text, score }) => [text, score]), byte_fallback: byteFallback };
  return {
    type: 'BPE',
    dropout: null,
    unk_token: pieces[unknownId]!.text,
    fuse_unk: true,
    byte_fallback: byteFallback,
    ignore_merges: false,
    vocab: Object.fromEntries(pieces.map(({ text }, id) => [text, id])),
    merges: deriveMerges(pieces),
  };
}

function normalizer({ charsmap, removesSpaces }: SentencePieceModel, isLegacy: boolean, addsSpace: boolean): JsonObject | null {
  const steps: JsonObject[] = [];
  if (charsmap.length > 0) steps.push({ type: 'Precompiled', precompiled_charsmap: Buffer.from(charsmap).toString('base64') });
  if (removesSpaces)
    steps.push(
      { type: 'Replace', pattern: { Regex: '^ +| +$' }, content: '' },
      { type: 'Replace', pattern: { Regex: ' {2,}' }, content: ' ' },
    );
  if (isLegacy && addsSpace) steps.push({ type: 'Prepend', prepend: '▁' });
  if (isLegacy) steps.push({ type: 'Replace', pattern: { String: ' ' }, content: '▁' });
  return steps.length === 0 ? null : { type: 'Sequence', normalizers: steps };
}

function decoder({ byteFallback }: SentencePieceModel, addsSpace: boolean): JsonObject {
  const decoders: JsonObject[] = [{ type: 'Replace', pattern: { String: '▁' }, content: ' ' }];
  if (byteFallback) decoders.push({ type: 'ByteFallback' });
  decoders.push({ type: 'Fuse' });
  if (addsSpace) decoders.push({ type: 'Strip', content: ' ', start: 1, stop: 0 });
  return { type: 'Sequence', decoders };
}

/** Control and user-defined pieces, and what the files beside the model add; a new token must have the next id. */
function numberTokens(
  config: TokenizerConfig,
  { pieces, unknownId }: SentencePieceModel,
  listed: readonly NumberedToken[],
): NumberedToken[] {
  const ids = new Map(pieces.map(({ text }, id) => [text, id]));
  const tokens = new Map<string, AddedToken & { readonly id?: number }>();
  for (const [id, { text, type }] of pieces.entries()) {
    const special = type === PIECE_TYPE.control || id === unknownId;
    if (special || type === PIECE_TYPE.userDefined) tokens.set(text, { ...parseAddedToken('', '', text, special), normalized: false });
  }
  const stated = [...statedInConfig(config), ...listed].toSorted((a, b) => a.id - b.id);
  for (const token of stated) tokens.set(token.content, { ...tokens.get(token.content), ...token });
  for (const token of [...config.roles.values(), ...config.additional]) {
    const known = tokens.get(token.content);
    tokens.set(token.content, known ? { ...known, special: true } : token);
  }
  let next = pieces.length;
  const numbered = [...tokens.values()].map((token) => {
    const id = ids.get(token.content) ?? next++;
    if (token.id !== undefined && token.id !== id)
      throw new FormatError(config.file, `added token ${JSON.stringify(token.content)} has id ${token.id}, expected ${id}`);
    return { ...token, id };
  });
  return numbered.toSorted((a, b) => a.id - b.id);
}

/** One token in front unless told otherwise, none behind unless told to. */
function postProcessor(config: TokenizerConfig, model: SentencePieceModel, added: readonly NumberedToken[]): JsonObject | null {
  const textOf = (role: 'bos_token' | 'eos_token', id: number | undefined) =>
    config.roles.get(role)?.content ?? (id === undefined ? undefined : model.pieces[id]!.text);
  const bos = textOf('bos_token', model.bosId);
  const eos = textOf('eos_token', model.eosId);
  const first = readFlag(config, 'add_bos_token', bos !== undefined) ? [need('add_bos_token', bos)] : [];
  const last = readFlag(config, 'add_eos_token', false) ? [need('add_eos_token', eos)] : [];
  if (first.length + last.length === 0) return null;
  const special = (token: string) => ({ SpecialToken: { id: token, type_id: 0 } });
  const around = (name: string) => [...first.map(special), { Sequence: { id: name, type_id: 0 } }, ...last.map(special)];
  const idOf = (token: string) =>
    added.find(({ content }) => content === token)?.id ?? model.pieces.findIndex(({ text }) => text === token);
  return {
    type: 'TemplateProcessing',
    single: around('A'),
    pair: [...around('A'), ...around('B')],
    special_tokens: Object.fromEntries([...first, ...last].map((token) => [token, { id: token, ids: [idOf(token)], tokens: [token] }])),
  };

  function need(flag: string, token: string | undefined): string {
    if (token === undefined) throw new FormatError(config.file, `${flag} is true, but the model has no such token`);
    return token;
  }
}
