import { type Llama, type LlamaModel, type LlamaVocabulary, openLlama, TOKEN_ATTRIBUTE } from '../native/llama.ts';
import { NativeError, UsageError } from '../util/errors.ts';
import { bytesDetokenizer } from './byte-level.ts';
import { pieceDetokenizer, sentencePieceDecoder } from './piece-decoder.ts';
import { type Tokenizer, decoderOf } from './tokenizer.ts';

/** llama.cpp counts bytes and tokens in 32 bits, and one byte may become three of them. */
const MAX_TEXT_BYTES: number = 2 ** 29;
/** Bytes of a piece that are tried first; longer ones are asked for again. */
const PIECE_BYTES = 256;

export interface SentencePieces {
  /** By id, as the vocabulary spells them. */
  readonly tokens: readonly string[];
  /** The vocabulary puts a space in front of a text. */
  readonly dropsFirstSpace: boolean;
}

/** A vocabulary that llama.cpp has loaded. Disposing it waits for texts that are still being encoded. */
export class LlamaTokenizer implements AsyncDisposable {
  readonly tokenizer: Tokenizer;
  /** Ids that end a text. */
  readonly endIds: readonly number[];
  readonly #llama: Llama;
  readonly #model: LlamaModel;
  readonly #vocabulary: LlamaVocabulary;
  readonly #running = new Set<Promise<unknown>>();
  #isClosed = false;

  private constructor(llama: Llama, model: LlamaModel, sentencePieces: SentencePieces | undefined) {
    this.#llama = llama;
    this.#model = model;
    this.#vocabulary = llama.modelVocabulary(model);
    const ids = Array.from({ length: llama.tokenCount(this.#vocabulary) }, (_, id) => id);
    const hidden = TOKEN_ATTRIBUTE.control | TOKEN_ATTRIBUTE.unknown;
    const specialIds = new Set(ids.filter((id) => (llama.attributes(this.#vocabulary, id) & hidden) !== 0));
    this.endIds = ids.filter((id) => llama.isEnd(this.#vocabulary, id));
    const parts = ids.map((id) => this.#pieceOf(id));
    const bytes = bytesDetokenizer(parts, specialIds);
    // Some tokens take the whitespace beside them, so that only the rest is sure to become tokens.
    const longest = parts.reduce((most, { length }) => Math.max(most, length), 1);
    const pieces =
      sentencePieces &&
      pieceDetokenizer(sentencePieceDecoder(sentencePieces.dropsFirstSpace), (id) => sentencePieces.tokens[id] ?? null, specialIds);
    this.tokenizer = {
      vocabularySize: ids.length,
      specialIds,
      encode: (text) => this.#encode(text, true),
      encodeRaw: (text) => this.#encode(text, false),
      minTokens: (text) => Math.ceil(Buffer.byteLength(text.replace(/\s+/gu, '')) / longest),
      ...decoderOf(pieces ?? bytes),
      tokenText: (id) => bytes.decode([id], false),
    };
  }

  /**
   * @param file GGUF with checked metadata
   * @param sentencePieces of a SentencePiece vocabulary; others are byte-level
   * @returns undefined when llama.cpp does not take it. @throws {NativeError}
   */
  static open(file: string, sentencePieces: SentencePieces | undefined): LlamaTokenizer | undefined {
    const llama = openLlama();
    const model = llama.loadVocabulary(file);
    return model ? new LlamaTokenizer(llama, model, sentencePieces) : undefined;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#isClosed) return;
    this.#isClosed = true;
    await Promise.allSettled(this.#running);
    this.#llama.modelFree(this.#model);
  }

  #pieceOf(id: number): Uint8Array {
    const read = (bytes: Uint8Array) => this.#llama.tokenToPiece(this.#vocabulary, id, bytes, bytes.length, 0, true);
    let bytes: Uint8Array = new Uint8Array(PIECE_BYTES);
    let length = read(bytes);
    if (length < 0) {
      bytes = new Uint8Array(-length);
      length = read(bytes);
    }
    return bytes.slice(0, Math.max(0, length));
  }

  async #encode(text: string, addSpecial: boolean): Promise<Int32Array> {
    const bytes = Buffer.from(text, 'utf8');
    if (bytes.length > MAX_TEXT_BYTES) throw new UsageError(`text of ${bytes.length} bytes, at most ${MAX_TEXT_BYTES} can be encoded`);
    let ids = new Int32Array(bytes.length + 16);
    let count = await this.#tokenize(bytes, ids, addSpecial);
    if (count < 0) {
      ids = new Int32Array(-count);
      count = await this.#tokenize(bytes, ids, addSpecial);
    }
    if (count < 0) throw new NativeError(`llama_tokenize: ${count} for a text of ${bytes.length} bytes`);
    return ids.slice(0, count);
  }

  /** @returns how many ids there are, negative when `ids` has no room for them */
  async #tokenize(bytes: Uint8Array, ids: Int32Array, addSpecial: boolean): Promise<number> {
    if (this.#isClosed) throw new UsageError('the tokenizer is closed');
    const done = new Promise<number>((resolve, reject) => {
      const settle = (error: Error | null, count: number) => (error ? reject(error) : resolve(count));
      this.#llama.tokenize.async(this.#vocabulary, bytes, bytes.length, ids, ids.length, addSpecial, true, settle);
    });
    this.#running.add(done);
    try {
      return await done;
    } finally {
      this.#running.delete(done);
    }
  }
}
