/** Limits on what a GGUF file may ask of us, beside those of `../limits.ts`. */

/** Table and metadata together. Large vocabularies take 20 MB, an embedded `tokenizer.json` up to 35 MB more. */
export const MAX_GGUF_HEADER_BYTES: number = 256 << 20;
/** Real files have 20 to 60 keys. */
export const MAX_GGUF_KEYS = 65_536;
/** Of a key: the format's own limit. */
export const MAX_GGUF_KEY_BYTES = 65_535;
/** Of one string: room for the longest `tokenizer.json`, twice. */
export const MAX_GGUF_STRING_BYTES: number = 64 << 20;
/** Of all arrays together. The largest vocabularies have 262,144 tokens and twice as many merges. */
export const MAX_GGUF_ELEMENTS = 8_000_000;
/** Of all arrays with elements of one byte, each of which takes eight in memory. Real ones are tables for normalising text, of 250 kB. */
export const MAX_GGUF_BYTE_ELEMENTS = 1_000_000;
/** The format's own. */
export const MAX_GGUF_RANK = 4;
/** Real files have 32, ours 4096. More than the largest pages would waste space and mean nothing. */
export const MAX_GGUF_ALIGNMENT: number = 1 << 20;
/** Bytes that a key takes at least: its length, one character, the type, a value of one byte. */
export const MIN_GGUF_KEY_BYTES = 14;
/** Bytes that a tensor takes in the table at least: length and one character of the name, rank, type, offset. */
export const MIN_GGUF_TENSOR_BYTES = 25;
