import { PIECE_TYPE, type SentencePiece } from './sentencepiece-model.ts';

/** Texts of two pieces that become one. */
export type Merge = readonly [left: string, right: string];

/**
 * The merges behind the pieces of a BPE model, first come first: SentencePiece merges the two neighbours that make the piece with the
 * highest score, so all pairs of pieces that make a piece are merges. Among equals the lower id goes first, then the shorter left piece.
 * Source: transformers, `generate_merges` in convert_slow_tokenizer.py.
 */
export function deriveMerges(pieces: readonly SentencePiece[]): Merge[] {
  const parts = new Set(pieces.filter(isMergeable).map(({ text }) => text));
  const ranked = pieces.filter(isMergeable).toSorted((a, b) => b.score - a.score);
  return ranked.flatMap(({ text }) => splits(text, parts));
}

/** The others stand for something else than their text. */
const isMergeable = ({ type }: SentencePiece) => type === PIECE_TYPE.normal || type === PIECE_TYPE.userDefined;

function splits(text: string, parts: ReadonlySet<string>): Merge[] {
  const found: Merge[] = [];
  for (let at = 1; at < text.length; at++) {
    const left = text.slice(0, at);
    if (!parts.has(left)) continue;
    const right = text.slice(at);
    if (parts.has(right)) found.push([left, right]);
  }
  return found;
}
