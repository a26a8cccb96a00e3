import { crc32 } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { crcHex, joinCrcs } from '../../../src/util/crc32.ts';

const bytes = Uint8Array.from({ length: 100_000 }, (_, i) => (i * i * 31) >> 3);

describe('joinCrcs', () => {
  it.each([0, 1, 2, 7, 4096, 65_537, 99_999, 100_000])('knows the whole from two parts, cut at %i', (at) => {
    const [first, second] = [bytes.subarray(0, at), bytes.subarray(at)];
    expect(joinCrcs(crc32(first), crc32(second), second.length)).toBe(crc32(bytes));
  });

  it('knows it of more bytes than 32 bits count', () => {
    // Doubling zeros 33 times, against zlib's sums of a few MiB.
    const piece = crc32(new Uint8Array(1 << 20));
    const double = (crc: number, length: number): number => joinCrcs(crc, crc, length);
    let crc = piece;
    for (let length = 1 << 20; length < 2 ** 34; length *= 2) crc = double(crc, length);
    let other = 0;
    for (let i = 0; i < 2 ** 14; i++) other = joinCrcs(piece, other, i * 2 ** 20);
    expect(crc).toBe(other);
    expect(joinCrcs(piece, piece, 1 << 20)).toBe(crc32(new Uint8Array(2 << 20)));
  });
});

it('crcHex has 8 digits', () => {
  expect([crcHex(0), crcHex(0xabc), crcHex(crc32('123456789'))]).toEqual(['00000000', '00000abc', 'cbf43926']);
});
