import type { Interleave } from '../models/model.ts';

/** Whole heads with their rows in the order of GGUF files: of the rotated ones, row i of the first half, then row i of the second. */
export function interleaveRows(bytes: Uint8Array, rowBytes: number, { headRows, rotatedRows }: Interleave): Uint8Array {
  const result = Uint8Array.from(bytes);
  const half = rotatedRows / 2;
  for (let head = 0; head < bytes.byteLength; head += headRows * rowBytes) {
    for (let row = 0; row < rotatedRows; row++) {
      const to = 2 * (row % half) + Math.floor(row / half);
      const from = head + row * rowBytes;
      result.set(bytes.subarray(from, from + rowBytes), head + to * rowBytes);
    }
  }
  return result;
}
