import type { ByteSource } from './byte-source.ts';

/** Element types that files store, by their safetensors names. Readers of other formats map onto these and add their own. */
export type StoredDtype = 'F64' | 'F32' | 'F16' | 'BF16' | 'I64' | 'I32' | 'I16' | 'I8' | 'U8' | 'BOOL' | 'F8_E4M3' | 'F8_E5M2';

/** A named tensor in a file: where its bytes lie, not the bytes. What every format's reader yields. */
export interface TensorEntry {
  readonly name: string;
  readonly dtype: StoredDtype;
  /** Outermost dimension first, as in PyTorch; elements in row-major order. */
  readonly shape: readonly number[];
  /** Bytes from the start of the file; any alignment. */
  readonly start: number;
  readonly byteLength: number;
}

/** An entry with the open file that it lies in. */
export interface StoredTensor extends TensorEntry {
  readonly source: ByteSource;
}
