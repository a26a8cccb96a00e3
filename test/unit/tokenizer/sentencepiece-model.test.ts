import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { PbfWriter } from 'pbf';
import { describe, expect, it } from 'vitest';
import { deriveMerges } from '../../../src/tokenizer/sentencepiece-merges.ts';
import { parseSentencePieceModel } from '../../../src/tokenizer/sentencepiece-model.ts';
import { FormatError } from '../../../src/util/errors.ts';

const fixture = readFileSync(fileURLToPath(new URL('../../fixtures/tokenizers/llama-spm-bpe/tokenizer.model', import.meta.url)));
const parse = (bytes: Uint8Array) => parseSentencePieceModel('tokenizer.model', bytes);

interface Piece {
  readonly text: string | Uint8Array;
  readonly score?: number;
  readonly type?: number;
}

/** A model file with `more` behind its pieces. */
function modelOf(pieces: readonly Piece[], more: (writer: PbfWriter) => void = () => {}): Uint8Array {
  const writer = new PbfWriter();
  for (const piece of pieces) writer.writeMessage(1, writePiece, piece);
  more(writer);
  return writer.finish();
}

function writePiece({ text, score, type }: Piece, writer: PbfWriter): void {
  writer.writeBytesField(1, Buffer.from(text as string));
  if (score !== undefined) writer.writeFloatField(2, score);
  if (type !== undefined) writer.writeVarintField(3, type);
}

const trainer = (field: number, value: number) => (writer: PbfWriter) =>
  writer.writeMessage(2, (_: undefined, inner: PbfWriter) => inner.writeVarintField(field, value), undefined);
const tableOf = (bytes: readonly number[]) => (writer: PbfWriter) =>
  writer.writeMessage(3, (_: undefined, inner: PbfWriter) => inner.writeBytesField(2, Uint8Array.from(bytes)), undefined);
const PIECES: readonly Piece[] = [{ text: '<unk>', type: 2 }, { text: '<s>', type: 3 }, { text: '</s>', type: 3 }, { text: 'a' }];

describe('parseSentencePieceModel', () => {
  it('reads pieces and settings of a real file', () => {
    const { pieces, charsmap, ...settings } = parse(fixture);
    expect(pieces.length).toBe(900);
    expect(pieces[259]).toEqual({ text: '▁▁', score: -0, type: 1 });
    expect(pieces[13]).toEqual({ text: '<0x0A>', score: 0, type: 6 });
    expect(charsmap.length).toBe(0);
    expect(settings).toEqual({
      kind: 'bpe',
      byteFallback: true,
      unknownId: 0,
      bosId: 1,
      eosId: 2,
      padId: undefined,
      addsSpace: true,
      removesSpaces: false,
    });
  });

  it('assumes what the format does for missing settings', () => {
    const { kind, byteFallback, addsSpace, removesSpaces } = parse(modelOf(PIECES));
    expect({ kind, byteFallback, addsSpace, removesSpaces }).toEqual({
      kind: 'unigram',
      byteFallback: false,
      addsSpace: true,
      removesSpaces: true,
    });
  });

  it.each<[string, Uint8Array, RegExp]>([
    ['nothing', new Uint8Array(), /has no pieces/],
    ['half a file', fixture.subarray(0, fixture.length >> 1), /cut off/],
    ['a number without an end', Uint8Array.of(0x0a, 0xff), /damaged/],
    ['an endless number', Uint8Array.of(0x0a, ...Array<number>(11).fill(0xff)), /damaged|cut off/],
    ['another wire type', Uint8Array.of(0x08, 1), /piece has wire type 0, expected 2/],
    ['an unknown wire type', Uint8Array.of(0x7b, 1), /damaged/],
    ['a score cut off', Uint8Array.of(0x0a, 4, 0x15, 0, 0, 0), /piece 0 (is damaged|is cut off)/],
    ['text', Buffer.from('{"model": 1}'), /tokenizer\.model: /],
    ['a piece without text', modelOf([{ text: '' }]), /piece 0 is empty/],
    ['a piece twice', modelOf([...PIECES, { text: 'a' }]), /pieces 3 and 4 are both "a"/],
    ['a piece that is no UTF-8', modelOf([...PIECES, { text: Uint8Array.of(0xc3) }]), /piece 4 is not UTF-8/],
    ['a long piece', modelOf([...PIECES, { text: 'x'.repeat(4097) }]), /piece 4 has 4097 characters, at most 4096/],
    ['a score that is no number', modelOf([...PIECES, { text: 'b', score: NaN }]), /piece 4: score is NaN/],
    ['an unknown type', modelOf([...PIECES, { text: 'b', type: 7 }]), /piece 4: type is 7, expected 1 to 6/],
    ['a byte of another spelling', modelOf([...PIECES, { text: 'b', type: 6 }]), /piece 4: "b" is said to be a byte/],
    ['words', modelOf(PIECES, trainer(3, 3)), /model_type is 3; unigram \(1\) and BPE \(2\)/],
    ['a special id that is too large', modelOf(PIECES, trainer(41, 4)), /bos_id is 4, expected an id below 4/],
    ['a charsmap cut off', modelOf(PIECES, tableOf([0xff, 0xff, 0, 0, 0, 0, 0, 0])), /precompiled_charsmap is cut off/],
    [
      'a charsmap that leads outside',
      modelOf(PIECES, tableOf([4, 0, 0, 0, 0, 0xff, 0xff, 0, 97, 0])),
      /precompiled_charsmap has a node outside/,
    ],
    ['a charsmap of other bytes', modelOf(PIECES, tableOf([4, 0, 0, 0, 0, 0, 0, 0, 0xff])), /texts that are not UTF-8/],
    ['no unknown piece', modelOf(PIECES, trainer(40, -1)), /unk_id is missing/],
  ])('refuses %s', (_what, bytes, message) => {
    expect(() => parse(bytes)).toThrow(FormatError);
    expect(() => parse(bytes)).toThrow(message);
  });
});

describe('deriveMerges', () => {
  const piece = (text: string, score: number, type = 1) => ({ text, score, type });

  it('takes every pair that makes a piece, by score, then id, then length', () => {
    const pieces = ['a', 'b', 'c'].map((text) => piece(text, -9)).concat(piece('bc', -2), piece('abc', -3), piece('ab', -2));
    expect(deriveMerges(pieces)).toEqual([
      ['b', 'c'],
      ['a', 'b'],
      ['a', 'bc'],
      ['ab', 'c'],
    ]);
  });

  it('leaves out pieces that stand for something else', () => {
    expect(deriveMerges([piece('<', -1), piece('s>', -2), piece('<s>', 0, 3)])).toEqual([]);
  });
});
