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

/**
 * The decoder of SentencePiece vocabularies with byte fallback: `▁` is a space, a run of byte tokens is UTF-8.
 * @param dropsFirstSpace the space that was put in front of the text is taken off again
 */
export function sentencePieceDecoder(dropsFirstSpace: boolean): PieceDecoder {
  return {
    decode(tokens) {
      let text = '';
      let run: number[] = [];
      const endRun = () => {
        text += decodeRun(run);
        run = [];
      };
      for (const token of tokens) {
        if (BYTE_TOKEN.test(token)) run.push(Number.parseInt(token.slice(3, 5), 16));
        else {
          endRun();
          text += token.replaceAll('\u2581', ' ');
        }
      }
      endRun();
      return dropsFirstSpace && text.startsWith(' ') ? text.slice(1) : text;
    },
  };
}

function decodeRun(bytes: readonly number[]): string {
  try {
    return new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(Uint8Array.from(bytes));
  } catch {
    return '\ufffd'.repeat(bytes.length);
  }
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
