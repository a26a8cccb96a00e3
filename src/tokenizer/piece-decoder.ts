import type { Detokenizer, StreamDecoder } from './detokenizer.ts';

/** A decoder from outside that knows only whole sequences, such as that of a SentencePiece tokenizer. */
export interface PieceDecoder {
  decode(tokens: string[]): string;
}

/** Decodes with any decoder whose text for a token depends only on the tokens before it and on the run of byte tokens it is in. */
export function pieceDetokenizer(
  decoder: PieceDecoder,
  tokenOf: (id: number) => string | null,
  specialIds: ReadonlySet<number>,
): Detokenizer {
  const visible = (id: number, skipSpecialTokens: boolean) => (skipSpecialTokens && specialIds.has(id) ? null : tokenOf(id));
  return {
    decode: (ids, skipSpecialTokens) => {
      const tokens: string[] = [];
      for (let i = 0; i < ids.length; i++) {
        const token = visible(ids[i] as number, skipSpecialTokens);
        if (token !== null) tokens.push(token);
      }
      return decoder.decode(tokens);
    },
    stream: (skipSpecialTokens) => new PieceStream(decoder, (id) => visible(id, skipSpecialTokens)),
  };
}

/** `<0x0A>`: one byte. A run of them is decoded as a whole: one bad byte turns all of them into U+FFFD. */
const BYTE_TOKEN = /^<0x[0-9A-F]{2}>$/;

class PieceStream implements StreamDecoder {
  readonly #decoder: PieceDecoder;
  readonly #tokenOf: (id: number) => string | null;
  /** The tokens returned last: what comes next depends on whether anything stands before it (leading spaces are stripped). */
  #context: string[] = [];
  #run: string[] = [];

  constructor(decoder: PieceDecoder, tokenOf: (id: number) => string | null) {
    this.#decoder = decoder;
    this.#tokenOf = tokenOf;
  }

  push(id: number): string {
    const token = this.#tokenOf(id);
    if (token === null) return '';
    this.#run.push(token);
    return BYTE_TOKEN.test(token) ? '' : this.#release();
  }

  end(): string {
    const text = this.#run.length === 0 ? '' : this.#release();
    this.#context = [];
    return text;
  }

  #release(): string {
    const before = this.#decoder.decode([...this.#context]);
    const text = this.#decoder.decode([...this.#context, ...this.#run]).slice(before.length);
    this.#context = this.#run;
    this.#run = [];
    return text;
  }
}
