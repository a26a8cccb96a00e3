/** Turns token ids back into text. Ids that the tokenizer does not know give no text: a model's vocabulary may be padded. */
export interface Detokenizer {
  decode(ids: ArrayLike<number>, skipSpecialTokens: boolean): string;
  stream(skipSpecialTokens: boolean): StreamDecoder;
}

/**
 * Decodes a growing sequence. What `push` and `end` return, put together, is `decode` of all ids. A character is never split:
 * it comes whole, with the token that completes it. Bytes that are no UTF-8 become U+FFFD.
 */
export interface StreamDecoder {
  /** Text that became final with this token; often empty while a character is incomplete. */
  push(id: number): string;
  /** The text that was still held back. The decoder is then as new. */
  end(): string;
}
