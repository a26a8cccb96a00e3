import { internalError } from '../../util/errors.ts';
import { bf16ToF32, type DType, f16ToF32, f32ToBf16, f32ToF16 } from '../dtype.ts';
import type { Elements } from './ops.ts';

/** Memory of one tensor and access to its elements. */
export interface Storage extends Elements {
  readonly bytes: Uint8Array;
}

/** Filled with 0xff, which is NaN in every float type and -1 as an index, so that what was never written shows in results. */
export function newStorage(dtype: DType, byteLength: number): Storage {
  const bytes = new Uint8Array(byteLength).fill(0xff);
  return { bytes, ...elementsOf(dtype, bytes.buffer) };
}

/** Elements `from` to `to` as f32, exact. */
export function widen(elements: Elements, from: number, to: number): Float32Array {
  const result = new Float32Array(to - from);
  for (let i = 0; i < result.length; i++) result[i] = elements.read(from + i);
  return result;
}

function elementsOf(dtype: DType, buffer: ArrayBuffer): Elements {
  switch (dtype) {
    case 'f32':
      return plain(new Float32Array(buffer));
    case 'i32':
      return plain(new Int32Array(buffer));
    case 'f16':
      return coded(new Uint16Array(buffer), f16ToF32, f32ToF16);
    case 'bf16':
      return coded(new Uint16Array(buffer), bf16ToF32, f32ToBf16);
    default:
      throw internalError(`the reference device has no elements of type ${dtype}`);
  }
}

function plain(array: Float32Array | Int32Array): Elements {
  return { read: (index) => array[index]!, write: (index, value) => void (array[index] = value) };
}

function coded(array: Uint16Array, decode: (bits: number) => number, encode: (value: number) => number): Elements {
  return { read: (index) => decode(array[index]!), write: (index, value) => void (array[index] = encode(value)) };
}
