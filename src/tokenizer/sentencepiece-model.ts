/** Reads `tokenizer.model`, the file of the SentencePiece library: a protobuf message with pieces and settings. */
import { PbfReader } from 'pbf';
import { FormatError } from '../util/errors.ts';
import { checkCharsmap } from './sentencepiece-charsmap.ts';
import { isTokenId, MAX_TOKEN_ID } from './vocabulary.ts';

/** Numbers of sentencepiece_model.proto. */
export const PIECE_TYPE = { normal: 1, unknown: 2, control: 3, userDefined: 4, unused: 5, byte: 6 } as const;

export interface SentencePiece {
  readonly text: string;
  /** Log-probability in a unigram model; in BPE, the higher the earlier it is merged. */
  readonly score: number;
  /** One of PIECE_TYPE. */
  readonly type: number;
}

export interface SentencePieceModel {
  readonly kind: 'unigram' | 'bpe';
  /** By id, no text twice. */
  readonly pieces: readonly SentencePiece[];
  readonly byteFallback: boolean;
  /** Ids of special pieces; undefined for those that the model does without. */
  readonly unknownId: number;
  readonly bosId: number | undefined;
  readonly eosId: number | undefined;
  readonly padId: number | undefined;
  /** Table that replaces characters, as the library compiles it; empty for none. */
  readonly charsmap: Uint8Array;
  /** A space is put in front of a text. */
  readonly addsSpace: boolean;
  /** Spaces at both ends go, and runs of them become one. */
  readonly removesSpaces: boolean;
}

/** UTF-16 units. The longest tokens of real vocabularies are runs of some hundred spaces. Also bounds the pairs that a token is split into. */
const MAX_PIECE_LENGTH = 4096;
/** Of all pieces together; the largest vocabularies have 2.5 million. */
const MAX_CHARACTERS = 32_000_000;
/** Wire types of protobuf. */
const VARINT = 0;
const BYTES = 2;
const FIXED32 = 5;
const KINDS: Readonly<Record<number, SentencePieceModel['kind']>> = { 1: 'unigram', 2: 'bpe' };

/** @param file where the bytes stand, for messages. @throws {FormatError} naming what is wrong */
export function parseSentencePieceModel(file: string, bytes: Uint8Array): SentencePieceModel {
  const pieces: SentencePiece[] = [];
  let trainer: Fields = new Map();
  let normalizer: Fields = new Map();
  for (const [field, value] of readMessage(file, 'the model', bytes, MODEL_FIELDS)) {
    if (field === 'piece') {
      if (!isTokenId(pieces.length)) throw new FormatError(file, `more than ${MAX_TOKEN_ID + 1} pieces`);
      pieces.push(parsePiece(file, pieces.length, value as Uint8Array));
    } else if (field === 'trainer') trainer = new Map(readMessage(file, 'trainer_spec', value as Uint8Array, TRAINER_FIELDS));
    else normalizer = new Map(readMessage(file, 'normalizer_spec', value as Uint8Array, NORMALIZER_FIELDS));
  }
  checkPieces(file, pieces);
  const number = (name: string, missing: number) => (trainer.get(name) as number | undefined) ?? missing;
  const kind = KINDS[number('model_type', 1)];
  if (!kind) throw new FormatError(file, `model_type is ${number('model_type', 1)}; unigram (1) and BPE (2) are read`);
  const idOf = (name: string, missing: number) => specialId(file, name, number(name, missing), pieces.length);
  const unknownId = idOf('unk_id', 0);
  if (unknownId === undefined) throw new FormatError(file, 'unk_id is missing');
  const flag = (name: string) => normalizer.get(name) !== 0;
  if (!flag('escape_whitespaces')) throw new FormatError(file, 'escape_whitespaces is false, which is not read');
  const charsmap = (normalizer.get('precompiled_charsmap') as Uint8Array | undefined) ?? new Uint8Array();
  checkCharsmap(file, charsmap);
  return {
    kind,
    pieces,
    byteFallback: number('byte_fallback', 0) !== 0,
    unknownId,
    bosId: idOf('bos_id', 1),
    eosId: idOf('eos_id', 2),
    padId: idOf('pad_id', -1),
    charsmap,
    addsSpace: flag('add_dummy_prefix'),
    removesSpaces: flag('remove_extra_whitespaces'),
  };
}

type Fields = ReadonlyMap<string, number | Uint8Array>;
/** Number of a field to its name and wire type; others are skipped. */
type Layout = Readonly<Record<number, readonly [name: string, type: number]>>;

const MODEL_FIELDS: Layout = { 1: ['piece', BYTES], 2: ['trainer', BYTES], 3: ['normalizer', BYTES] };
const PIECE_FIELDS: Layout = { 1: ['piece', BYTES], 2: ['score', FIXED32], 3: ['type', VARINT] };
const TRAINER_FIELDS: Layout = {
  3: ['model_type', VARINT],
  35: ['byte_fallback', VARINT],
  40: ['unk_id', VARINT],
  41: ['bos_id', VARINT],
  42: ['eos_id', VARINT],
  43: ['pad_id', VARINT],
};
const NORMALIZER_FIELDS: Layout = {
  2: ['precompiled_charsmap', BYTES],
  3: ['add_dummy_prefix', VARINT],
  4: ['remove_extra_whitespaces', VARINT],
  5: ['escape_whitespaces', VARINT],
};

/** The fields that `layout` names, in file order. The library reads past the end without a word, so each step is checked. */
function* readMessage(file: string, what: string, bytes: Uint8Array, layout: Layout): Generator<[string, number | Uint8Array]> {
  const reader = new PbfReader(bytes);
  const step = <T>(read: () => T): T => {
    try {
      const value = read();
      if (reader.pos <= bytes.length) return value;
    } catch (cause) {
      throw new FormatError(file, `${what} is damaged: ${(cause as Error).message}`, {}, { cause });
    }
    throw new FormatError(file, `${what} is cut off`);
  };
  for (;;) {
    const field = step(() => reader.nextField());
    if (field === 0) break;
    const known = layout[field];
    if (!known) continue;
    const [name, type] = known;
    if (reader.type !== type) throw new FormatError(file, `${what}: ${name} has wire type ${reader.type}, expected ${type}`);
    const read = () => (type === BYTES ? reader.readBytes() : type === FIXED32 ? reader.readFloat() : reader.readVarint(true));
    yield [name, step(read)];
  }
  if (reader.pos < bytes.length) throw new FormatError(file, `${what}: field 0 at byte ${reader.pos}`);
}

function parsePiece(file: string, id: number, bytes: Uint8Array): SentencePiece {
  const what = `piece ${id}`;
  const fields = new Map(readMessage(file, what, bytes, PIECE_FIELDS));
  const text = decodeText(file, what, fields.get('piece') as Uint8Array | undefined);
  const score = (fields.get('score') as number | undefined) ?? 0;
  const type = (fields.get('type') as number | undefined) ?? PIECE_TYPE.normal;
  if (!Number.isFinite(score)) throw new FormatError(file, `${what}: score is ${score}, expected a finite number`);
  if (!(type >= PIECE_TYPE.normal && type <= PIECE_TYPE.byte)) throw new FormatError(file, `${what}: type is ${type}, expected 1 to 6`);
  if (type === PIECE_TYPE.byte && !/^<0x[0-9A-F]{2}>$/.test(text))
    throw new FormatError(file, `${what}: ${JSON.stringify(text)} is said to be a byte, which is spelt as <0x0A>`);
  return { text, score, type };
}

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

function decodeText(file: string, what: string, bytes: Uint8Array | undefined): string {
  if (bytes === undefined || bytes.length === 0) throw new FormatError(file, `${what} is empty`);
  let text: string;
  try {
    text = UTF8.decode(bytes);
  } catch (cause) {
    throw new FormatError(file, `${what} is not UTF-8`, {}, { cause });
  }
  if (text.length > MAX_PIECE_LENGTH)
    throw new FormatError(file, `${what} has ${text.length} characters, at most ${MAX_PIECE_LENGTH} are read`);
  return text;
}

function checkPieces(file: string, pieces: readonly SentencePiece[]): void {
  if (pieces.length === 0) throw new FormatError(file, 'has no pieces');
  const owners = new Map<string, number>();
  let characters = 0;
  for (const [id, { text }] of pieces.entries()) {
    const owner = owners.get(text);
    if (owner !== undefined) throw new FormatError(file, `pieces ${owner} and ${id} are both ${JSON.stringify(text)}`);
    owners.set(text, id);
    characters += text.length;
  }
  if (characters > MAX_CHARACTERS)
    throw new FormatError(file, `pieces have ${characters} characters together, at most ${MAX_CHARACTERS} are read`);
}

/** -1 means that there is none. */
function specialId(file: string, name: string, id: number, count: number): number | undefined {
  if (id === -1) return undefined;
  if (!Number.isInteger(id) || id < 0 || id >= count) throw new FormatError(file, `${name} is ${id}, expected an id below ${count}`);
  return id;
}
