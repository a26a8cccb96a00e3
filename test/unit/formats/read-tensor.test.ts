import { describe, expect, it } from 'vitest';
import { type ByteSource, fromBytes } from '../../../src/formats/byte-source.ts';
import { readTensor } from '../../../src/formats/read-tensor.ts';
import type { StoredTensor } from '../../../src/formats/tensor-entry.ts';

interface Read {
  readonly start: number;
  readonly byteLength: number;
}

/** Element number i has the value i, and reads are noted. */
function tensorOf(
  shape: readonly number[],
  strides: readonly number[],
  offset = 0,
): { readonly tensor: StoredTensor; readonly reads: Read[] } {
  const last = shape.reduce((index, n, i) => index + (n - 1) * strides[i]!, offset);
  const bytes = new Uint8Array(Uint16Array.from({ length: last + 1 }, (_, i) => i & 0xffff).buffer);
  const reads: Read[] = [];
  const inner = fromBytes('file', bytes);
  const source: ByteSource = {
    ...inner,
    read: (start, target) => {
      reads.push({ start, byteLength: target.byteLength });
      return inner.read(start, target);
    },
  };
  const byteLength = 2 * shape.reduce((product, n) => product * n, 1);
  return { tensor: { name: 't', dtype: 'I16', shape, strides, start: 2 * offset, byteLength, source }, reads };
}

/** The definition: one index after the other. */
function naive(shape: readonly number[], strides: readonly number[], offset: number): number[] {
  const count = shape.reduce((product, n) => product * n, 1);
  return Array.from({ length: count }, (_, number) => {
    let rest = number;
    return shape.reduceRight((index, n, axis) => {
      const at = rest % n;
      rest = Math.floor(rest / n);
      return index + at * strides[axis]!;
    }, offset);
  });
}

async function read(tensor: StoredTensor, first: number, count: number): Promise<number[]> {
  const bytes = new Uint8Array(2 * count);
  await readTensor(tensor, first, bytes);
  return [...new Uint16Array(bytes.buffer)];
}

const bytesRead = (reads: readonly Read[]): number => reads.reduce((sum, { byteLength }) => sum + byteLength, 0);

describe('readTensor', () => {
  it.each<[string, number[], number[], number]>([
    ['a transposed matrix', [5, 7], [1, 5], 0],
    ['columns of a wider matrix', [5, 3], [7, 1], 2],
    ['columns of a far wider matrix', [4, 3], [1000, 1], 2],
    ['a transposed part', [3, 5], [1, 7], 2],
    ['both strided', [4, 3], [20, 5], 1],
    ['both strided and transposed', [3, 4], [5, 20], 1],
    ['an expanded row', [3, 4], [0, 1], 5],
    ['an expanded column', [3, 4], [1, 0], 5],
    ['one element again and again', [3, 4], [0, 0], 5],
    ['a strided vector', [6], [3], 4],
    ['permuted dimensions', [2, 3, 4], [4, 8, 1], 0],
    ['other permuted dimensions', [4, 2, 3], [1, 12, 4], 0],
    ['reversed dimensions', [2, 3, 4, 2], [1, 2, 6, 24], 3],
    ['dimensions of one element', [1, 3, 1, 4, 1], [99, 1, 99, 3, 99], 0],
    ['overlapping windows', [5, 3], [1, 1], 0],
  ])('gives any range of %s', async (_what, shape, strides, offset) => {
    const { tensor } = tensorOf(shape, strides, offset);
    const expected = naive(shape, strides, offset);
    for (let first = 0; first < expected.length; first++) {
      for (let count = 0; first + count <= expected.length; count++) {
        expect(await read(tensor, first, count), `${count} from ${first} on`).toEqual(expected.slice(first, first + count));
      }
    }
  });

  it.each<[string, number[], number[]]>([
    ['transposed', [1500, 1400], [1, 1500]],
    ['every second column', [1500, 1400], [2800, 2]],
    ['rows longer than what is read at once', [2, 600_000], [1_200_000, 2]],
    ['a vector longer than that', [700_000], [3]],
  ])('passes a large tensor through little memory: %s', async (_what, shape, strides) => {
    const { tensor, reads } = tensorOf(shape, strides);
    const expected = naive(shape, strides, 0).map((index) => index & 0xffff);
    const count = expected.length;
    const [middle] = [Math.floor(count / 3)];
    const got = [...(await read(tensor, 0, middle)), ...(await read(tensor, middle, count - middle))];
    expect(got.every((value, i) => value === expected[i])).toBe(true);
    expect(got).toHaveLength(count);
    expect(Math.max(...reads.map(({ byteLength }) => byteLength))).toBeLessThanOrEqual(1 << 20);
  });

  it.each<[string, number[], number[], number]>([
    ['rows of a transposed matrix', [1000, 1000], [1, 1000], 40],
    ['columns far apart', [100, 10], [5000, 1], 1000],
    ['a whole transposed matrix', [300, 300], [1, 300], 90_000],
  ])('reads no more than needed: %s', async (_what, shape, strides, count) => {
    const { tensor, reads } = tensorOf(shape, strides);
    await read(tensor, 0, count);
    expect(bytesRead(reads)).toBeLessThanOrEqual(4 * 2 * count);
    expect(bytesRead(reads)).toBeGreaterThanOrEqual(2 * count);
  });

  it('reads a tensor without strides as it lies', async () => {
    const { tensor, reads } = tensorOf([4, 5], [5, 1]);
    const { strides: _, ...plain } = tensor;
    expect(await read(plain, 6, 3)).toEqual([6, 7, 8]);
    expect(reads).toEqual([{ start: 12, byteLength: 6 }]);
  });

  it('says where the file ends', async () => {
    const { tensor } = tensorOf([2, 3], [1, 2]);
    await expect(read({ ...tensor, start: 4 }, 0, 6)).rejects.toMatchObject({ code: 'format' });
  });
});
