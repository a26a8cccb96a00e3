import { QUANT_BLOCKS, type QuantType } from '../../tensor/dtype.ts';
import { type StoredDtype, storedBytes } from '../tensor-entry.ts';

/**
 * Types of metadata by the names used here: number in the file, bytes of a value (of the length, for strings and arrays).
 * Source: the format's description in ggml's repository, `docs/gguf.md`.
 */
export const VALUE_TYPES = {
  u8: { id: 0, bytes: 1 },
  i8: { id: 1, bytes: 1 },
  u16: { id: 2, bytes: 2 },
  i16: { id: 3, bytes: 2 },
  u32: { id: 4, bytes: 4 },
  i32: { id: 5, bytes: 4 },
  f32: { id: 6, bytes: 4 },
  bool: { id: 7, bytes: 1 },
  string: { id: 8, bytes: 8 },
  array: { id: 9, bytes: 12 },
  u64: { id: 10, bytes: 8 },
  i64: { id: 11, bytes: 8 },
  f64: { id: 12, bytes: 8 },
} as const;

export type GgufValueType = keyof typeof VALUE_TYPES;
export type GgufScalarType = Exclude<GgufValueType, 'array'>;
export type GgufNumberType = Exclude<GgufScalarType, 'bool' | 'string'>;

/** Element types of tensors: `ggml_type` of ggml.h. */
export const TENSOR_TYPE_IDS = {
  F32: 0,
  F16: 1,
  Q4_0: 2,
  Q4_1: 3,
  Q5_0: 6,
  Q5_1: 7,
  Q8_0: 8,
  Q2_K: 10,
  Q3_K: 11,
  Q4_K: 12,
  Q5_K: 13,
  Q6_K: 14,
  IQ2_XXS: 16,
  IQ2_XS: 17,
  IQ3_XXS: 18,
  IQ1_S: 19,
  IQ4_NL: 20,
  IQ3_S: 21,
  IQ2_S: 22,
  IQ4_XS: 23,
  I8: 24,
  I16: 25,
  I32: 26,
  I64: 27,
  F64: 28,
  IQ1_M: 29,
  BF16: 30,
  TQ1_0: 34,
  TQ2_0: 35,
  MXFP4: 39,
  NVFP4: 40,
  Q1_0: 41,
  Q2_0: 42,
} as const satisfies Partial<Record<StoredDtype, number>>;

/** Element types that a GGUF file can hold. */
export type GgufDtype = keyof typeof TENSOR_TYPE_IDS;

/** Types with a number that no file should have: ggml removed them, or uses them for activations only. */
export const REFUSED_TENSOR_TYPES: ReadonlyMap<number, string> = new Map([
  [4, 'Q4_2, which ggml has removed'],
  [5, 'Q4_3, which ggml has removed'],
  [9, 'Q8_1, which is not for weights'],
  [15, 'Q8_K, which is not for weights'],
  [31, 'Q4_0_4_4, which ggml has removed in favour of Q4_0'],
  [32, 'Q4_0_4_8, which ggml has removed in favour of Q4_0'],
  [33, 'Q4_0_8_8, which ggml has removed in favour of Q4_0'],
  [36, 'IQ4_NL_4_4, which ggml has removed in favour of IQ4_NL'],
  [37, 'IQ4_NL_4_8, which ggml has removed in favour of IQ4_NL'],
  [38, 'IQ4_NL_8_8, which ggml has removed in favour of IQ4_NL'],
]);

const DTYPES_BY_ID: ReadonlyMap<number, GgufDtype> = new Map(Object.entries(TENSOR_TYPE_IDS).map(([name, id]) => [id, name as GgufDtype]));

export const dtypeOfId = (id: number): GgufDtype | undefined => DTYPES_BY_ID.get(id);

/** Bytes of a tensor, `shape` outermost first; or what is wrong with the shape. */
export function tensorBytes(dtype: GgufDtype, shape: readonly number[]): number | string {
  const columns = shape.at(-1) ?? 1;
  const block = blockOf(dtype);
  if (columns % block !== 0) return `rows of ${columns} elements, ${dtype} has blocks of ${block}`;
  const elements = shape.reduce((product, n) => product * n, 1);
  // Eight bytes an element is the most that any type takes.
  if (elements > Number.MAX_SAFE_INTEGER / 8) return `shape [${shape.join(', ')}] has more elements than any file`;
  return storedBytes(dtype, elements);
}

function blockOf(dtype: GgufDtype): number {
  const type = dtype.toLowerCase();
  return Object.hasOwn(QUANT_BLOCKS, type) ? QUANT_BLOCKS[type as QuantType][0] : 1;
}

/** The next multiple of `alignment`. */
export const alignUp = (bytes: number, alignment: number): number => Math.ceil(bytes / alignment) * alignment;

/** What files without the key `general.alignment` have. */
export const DEFAULT_ALIGNMENT = 32;
/** Names it in the metadata. */
export const ALIGNMENT_KEY = 'general.alignment';
