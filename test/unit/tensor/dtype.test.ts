import { createHash } from 'node:crypto';
import { describe, expect, it } from 'vitest';
import { bf16ToF32, f16ToF32, f32ToBf16, f32ToF16, widenBf16, widenF16 } from '../../../src/tensor/dtype.ts';

const PATTERNS = Uint16Array.from({ length: 0x10000 }, (_, i) => i);
const isF16Nan = (bits: number) => (bits & 0x7fff) > 0x7c00;
const isBf16Nan = (bits: number) => (bits & 0x7fff) > 0x7f80;
const sha256 = (data: NodeJS.ArrayBufferView) => createHash('sha256').update(data).digest('hex');
const bitsOf = (values: Float32Array) => new Uint32Array(values.buffer, values.byteOffset, values.length);

describe('half precision', () => {
  it('widens every pattern as Python does', () => {
    // sha256 over struct.pack('<f', struct.unpack('<e', ...)) of all patterns in order that are no NaN, CPython 3.
    const python = '680bbc22915f61aa1bbfc7265bc3882a6aa42d299bfd2c571807196e5544de2e';
    const numbers = PATTERNS.filter((bits) => !isF16Nan(bits));
    const fast = new Float32Array(numbers.length);
    widenF16(numbers, fast);
    expect(sha256(fast)).toBe(python);
    expect(sha256(Float32Array.from(numbers, f16ToF32))).toBe(python);
  });

  it('widens NaN to NaN with the same payload', () => {
    const nans = PATTERNS.filter(isF16Nan);
    const fast = new Float32Array(nans.length);
    widenF16(nans, fast);
    expect(fast.every(Number.isNaN)).toBe(true);
    expect([...nans].every((bits) => Number.isNaN(f16ToF32(bits)))).toBe(true);
    expect(bitsOf(fast)).toEqual(Uint32Array.from(nans, (bits) => ((bits & 0x8000) << 16) | 0x7f800000 | ((bits & 0x3ff) << 13)));
  });

  it('narrows a million f32 patterns as Python does', () => {
    // sha256 over struct.pack('<e', x), overflow as infinity, of the f32 patterns k * 4093 with k < 2^20 that are no NaN, CPython 3.
    const python = '3e507754dec67cee54c7e60b70a22e618414af171c21229bc8eb59aed5445f9b';
    const patterns = new Float32Array(Uint32Array.from({ length: 1 << 20 }, (_, k) => k * 4093).buffer);
    expect(
      sha256(
        Uint16Array.from(
          patterns.filter((x) => !Number.isNaN(x)),
          f32ToF16,
        ),
      ),
    ).toBe(python);
  });

  it('narrows to the number itself, and between two numbers to the even one', () => {
    const numbers = PATTERNS.filter((bits) => !isF16Nan(bits));
    expect(numbers.filter((bits) => f32ToF16(f16ToF32(bits)) !== bits)).toHaveLength(0);
    const middle = (bits: number) => (f16ToF32(bits) + f16ToF32(bits + 1)) / 2;
    const below = PATTERNS.subarray(0, 0x7bff);
    expect(below.filter((bits) => f32ToF16(middle(bits)) !== bits + (bits % 2))).toHaveLength(0);
    expect(isF16Nan(f32ToF16(NaN))).toBe(true);
  });
});

describe('bfloat16', () => {
  it('widens every pattern to the f32 that has it as upper half', () => {
    const fast = new Float32Array(PATTERNS.length);
    widenBf16(PATTERNS, fast);
    expect(bitsOf(fast)).toEqual(Uint32Array.from(PATTERNS, (bits) => bits * 0x10000));
    expect(Float32Array.from(PATTERNS, bf16ToF32)).toEqual(fast);
    // 1, -2, the smallest, the largest
    expect([0x3f80, 0xc000, 0x0001, 0x7f7f].map((bits) => fast[bits])).toEqual([1, -2, 2 ** -133, (2 - 2 ** -7) * 2 ** 127]);
  });

  it('narrows to the number itself, and between two numbers to the even one', () => {
    const numbers = PATTERNS.filter((bits) => !isBf16Nan(bits));
    expect(numbers.filter((bits) => f32ToBf16(bf16ToF32(bits)) !== bits)).toHaveLength(0);
    const middle = (bits: number) => (bf16ToF32(bits) + bf16ToF32(bits + 1)) / 2;
    const below = PATTERNS.subarray(0, 0x7f7f);
    expect(below.filter((bits) => f32ToBf16(middle(bits)) !== bits + (bits % 2))).toHaveLength(0);
    expect(isBf16Nan(f32ToBf16(NaN))).toBe(true);
  });
});

it('widens into the middle of a buffer, of an odd number of elements', () => {
  const target = new Float32Array(7).fill(9);
  widenF16(new Uint16Array([0x3c00, 0xc000, 0x7c00]), target.subarray(2, 6));
  expect([...target]).toEqual([9, 9, 1, -2, Infinity, 9, 9]);
});
