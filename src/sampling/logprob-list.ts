import type { PositionLogprobs } from './params.ts';

/** Positions of a piece: memory comes as it is needed, and nothing moves when there are more. */
const PIECE_POSITIONS = 64;
/** In place of the id of an alternative that there is not. */
const NONE = -1;

interface Piece {
  readonly ids: Int32Array;
  readonly logprobs: Float64Array;
}

/** Log-probabilities of a sequence in flight. As objects they take five times as much, which counts when hundreds of rows want twenty a token. */
export class LogprobList {
  /** Values of a position: that of its token and those of the alternatives. */
  readonly #width: number;
  readonly #pieces: Piece[] = [];
  #length = 0;

  /** @param alternatives most of a position */
  constructor(alternatives: number) {
    this.#width = 1 + alternatives;
  }

  get length(): number {
    return this.#length;
  }

  push({ id, logprob, top }: PositionLogprobs): void {
    const { piece, at } = this.#place(this.#length++);
    piece.ids[at] = id;
    piece.logprobs[at] = logprob;
    for (const [i, alternative] of top.entries()) {
      piece.ids[at + 1 + i] = alternative.id;
      piece.logprobs[at + 1 + i] = alternative.logprob;
    }
    piece.ids.fill(NONE, at + 1 + top.length, at + this.#width);
  }

  toArray(): PositionLogprobs[] {
    return Array.from({ length: this.#length }, (_, i) => this.#position(i));
  }

  #position(index: number): PositionLogprobs {
    const { piece, at } = this.#place(index);
    const value = (i: number) => ({ id: piece.ids[i]!, logprob: piece.logprobs[i]! });
    const end = piece.ids.indexOf(NONE, at + 1);
    const count = (end === -1 ? at + this.#width : Math.min(end, at + this.#width)) - at - 1;
    return { ...value(at), top: Array.from({ length: count }, (_, i) => value(at + 1 + i)) };
  }

  #place(index: number): { readonly piece: Piece; readonly at: number } {
    const values = PIECE_POSITIONS * this.#width;
    const piece = (this.#pieces[Math.floor(index / PIECE_POSITIONS)] ??= {
      ids: new Int32Array(values),
      logprobs: new Float64Array(values),
    });
    return { piece, at: (index % PIECE_POSITIONS) * this.#width };
  }
}
