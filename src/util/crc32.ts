/** CRC-32 as in zip and PNG files (ISO 3309), 8 hexadecimal digits where it is written down. */

/** Bits of the polynomial, that of x^31 first, without x^32. */
const POLYNOMIAL = 0xedb88320;
/** x^0 and x^1. */
const ONE = 0x80000000;
const X = 0x40000000;

export const crcHex = (crc: number): string => crc.toString(16).padStart(8, '0');

/** The checksum of two runs of bytes one behind the other, from those of each; `bytes` is the length of the second one. Source: zlib's crc32_combine. */
export const joinCrcs = (first: number, second: number, bytes: number): number => (multiply(powerOfX(8 * bytes), first) ^ second) >>> 0;

/** x^n modulo the polynomial. */
function powerOfX(n: number): number {
  let power = ONE;
  let square = X;
  for (let rest = n; rest > 0; rest = Math.floor(rest / 2)) {
    if (rest % 2 === 1) power = multiply(square, power);
    square = multiply(square, square);
  }
  return power;
}

/** Product of two polynomials over the field of two elements, modulo the polynomial. */
function multiply(a: number, b: number): number {
  let product = 0;
  let shifted = b;
  for (let bit = ONE; bit !== 0; bit >>>= 1) {
    if ((a & bit) !== 0) product ^= shifted;
    shifted = (shifted & 1) !== 0 ? (shifted >>> 1) ^ POLYNOMIAL : shifted >>> 1;
  }
  return product;
}
