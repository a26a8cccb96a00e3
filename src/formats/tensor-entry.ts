import { byteLengthOf, isQuantType, type QuantType } from '../tensor/dtype.ts';
import type { ByteSource } from './byte-source.ts';

/** Bytes per element of types whose elements are stored one by one. */
const ITEM_BYTES = {
  F64: 8,
  F32: 4,
  F16: 2,
  BF16: 2,
  I64: 8,
  I32: 4,
  I16: 2,
  I8: 1,
  U8: 1,
  BOOL: 1,
  F8_E4M3: 1,
  F8_E5M2: 1,
} as const;

/** Element types that files store one by one, by their safetensors names. Readers of other formats map onto these and add their own. */
export type ItemDtype = keyof typeof ITEM_BYTES;
/** Those, and the block types of GGUF files by their names in capitals. */
export type StoredDtype = ItemDtype | Uppercase<QuantType>;

/** A named tensor in a file: where its bytes lie, not the bytes. What every format's reader yields. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Outermost dimension first, as in PyTorch. */
  readonly shape: readonly number[];
  /** Of the first element, in bytes from the start of the file; any alignment. */
  readonly start: number;
  /** Of all elements; with strides they lie spread over more, or over fewer. */
  readonly byteLength: number;
  /**
   * Elements from one neighbour to the next, for each dimension, when they do not lie in row-major order without gaps: a transposed or
   * sliced view. Read such a tensor with `readTensor`.
   */
  readonly strides?: readonly number[];
}

/** An entry with the open file that it lies in. */
export interface StoredTensor extends TensorEntry {
  readonly source: ByteSource;
}

/** @throws {FlexError} `shape` for block types, whose elements have no address of their own */
export function itemBytesOf(dtype: StoredDtype): number {
  return storedBytes(dtype, 1);
}

/** Bytes of `count` elements. @throws {FlexError} `shape`, when they are no whole blocks */
export function storedBytes(dtype: StoredDtype, count: number): number {
  const type = dtype.toLowerCase();
  return isQuantType(type) ? byteLengthOf(type, count) : ITEM_BYTES[dtype as ItemDtype] * count;
}
