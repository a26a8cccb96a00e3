/** Weights as the kernels take them. */
import { type Address, encodePlaces, type KernelPlace, type KernelWeight } from '../native/kernels.ts';
import { internalError } from '../util/errors.ts';
import type { Tensor, Weight } from './device.ts';
import { byteLengthOf, elementCount } from './dtype.ts';
import { nativeTensor } from './native-memory.ts';
import { KERNEL_TYPE } from './native-types.ts';

/** Function that widens rows of a type that the kernels do not know. */
export type ToFloat = (type: number) => Address | null;

/** In one piece, and in f32: vectors are never stored in other types on a device. */
export function vectorAddress({ name, segments }: Weight): Address {
  const [segment] = segments;
  if (segments.length !== 1 || segment!.tensor.dtype !== 'f32') throw internalError(`${name}: one segment of f32 expected`);
  return nativeTensor(segment!.tensor).address;
}

/** A matrix with this many columns. */
export function describe(toFloat: ToFloat, tensor: Tensor, columns: number): KernelWeight {
  const { address, dtype, packed, shape } = nativeTensor(tensor);
  const type = KERNEL_TYPE[dtype];
  const row_bytes = byteLengthOf(dtype, columns);
  return { data: address, row_bytes, type, packed: packed ? 1 : 0, n: elementCount(shape) / columns, k: columns, to_float: toFloat(type) };
}

/** What all matrices of a stack share; where they lie, `placesOf` says. */
export function describeStack(toFloat: ToFloat, { segments, shape }: Weight, count: number): KernelWeight {
  return { ...describe(toFloat, segments[0]!.tensor, shape[1]!), n: shape[0]! / count };
}

/** Where each matrix of a stack lies, for the kernels. */
export function placesOf({ segments, shape: [rows = 0, columns = 0] }: Weight, count: number): BigUint64Array {
  const each = rows / count;
  return encodePlaces(
    segments.flatMap(({ from, to, tensor }): KernelPlace[] => {
      const { address, dtype, packed } = nativeTensor(tensor);
      const bytes = byteLengthOf(dtype, each * columns);
      return Array.from({ length: (to - from) / each }, (_, i) => ({ data: address + BigInt(i * bytes), packed }));
    }),
  );
}
