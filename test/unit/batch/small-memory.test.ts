import { describe, expect, it } from 'vitest';
import { byteLines } from '../../../src/batch/byte-lines.ts';
import { IdSet } from '../../../src/batch/id-set.ts';
import { JournalIndex } from '../../../src/batch/journal-index.ts';

describe('JournalIndex', () => {
  it('takes few bytes per row, and finds every row of equal content', () => {
    const index = new JournalIndex();
    for (let row = 0; row < 200_000; row++) index.set(row, BigInt(row) * 3n, 100 + row, row % 2 === 1);
    expect(index.byteLength / 200_000).toBeLessThan(26);
    expect(index.find(199_999, 599_997n)).toEqual({ offset: 200_099, failed: true });
    expect(index.find(4, 12n)).toEqual({ offset: 104, failed: false });
    expect(index.find(4, 13n)).toBeUndefined();
    expect(index.find(200_001, 0n)).toBeUndefined();
    expect(index.find(5_000_000, 0n)).toBeUndefined();
  });
});

describe('IdSet', () => {
  it('knows an id again, however many there are', () => {
    const ids = new IdSet();
    const names = Array.from({ length: 5000 }, (_, i) => `request-${i}`);
    expect(names.every((name) => ids.add(name))).toBe(true);
    expect(names.some((name) => ids.add(name))).toBe(false);
  });
});

describe('byteLines', () => {
  it.each([1, 2, 5, 100])('splits chunks of %i bytes', async (size) => {
    const bytes = Buffer.from('ab\n\nlong line\ncd\nef');
    const chunks = async function* (): AsyncGenerator<Buffer, void, void> {
      for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
    };
    const lines: unknown[] = [];
    for await (const { line, start, ended, bytes: found } of byteLines(chunks(), 5)) lines.push([line, start, found?.toString(), ended]);
    expect(lines).toEqual([
      [1, 0, 'ab', true],
      [2, 3, '', true],
      [3, 4, undefined, true],
      [4, 14, 'cd', true],
      [5, 17, 'ef', false],
    ]);
  });
});
