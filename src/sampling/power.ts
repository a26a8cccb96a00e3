/** Rounds what is added to it to an integer, of which its last bits are then 1023 more: the exponent of 2^n in a double. */
const MAGIC = 1.5 * 2 ** 52 + 1023;
/** Below 2^LEAST a weight counts as none. */
const LEAST = -1000;
/** 2^n for n from LEAST to 0. */
const POWERS: Readonly<Float64Array> = Float64Array.from({ length: 1 - LEAST }, (_, i) => 2 ** (LEAST + i));

/**
 * 2^y for y <= 0, within 5e-14 of it relatively; exactly 1 for 0, and 0 below 2^-1000. Not Math.exp: the kernels compute the same bits with these
 * operations in this order (native/src/eight.h), so that both draw the same tokens. The polynomial is (2^r - 1) / r on [-1/2, 1/2], from its Chebyshev nodes.
 */
export function powerOfTwo(y: number): number {
  if (!(y >= LEAST)) return 0;
  const n = y + MAGIC - MAGIC;
  const r = y - n;
  let p = 1.0203216636934356e-7;
  p = p * r + 1.3255224382364634e-6;
  p = p * r + 1.5252686461094522e-5;
  p = p * r + 1.5403455856454542e-4;
  p = p * r + 1.333355817944074e-3;
  p = p * r + 9.61812915939403e-3;
  p = p * r + 5.550410866475993e-2;
  p = p * r + 2.402265069581303e-1;
  p = p * r + Math.LN2;
  p = p * r + 1;
  return p * POWERS[n - LEAST]!;
}
