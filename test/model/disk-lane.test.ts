import { readdirSync } from 'node:fs';
import { type FileHandle, open, rename, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { openFile } from '../../src/formats/byte-source.ts';
import { DirectReads } from '../../src/formats/direct-reads.ts';
import { DiskLane } from '../../src/native/disk-lane.ts';
import { directBuffer } from '../../src/native/page-cache.ts';
import { randomNumbers } from '../helpers/tensors.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const SIZE = 9 * 4096 + 1234;
const bytes = Uint8Array.from({ length: SIZE }, (_, i) => (i * 31 + (i >> 8)) % 251);
const countOf = (folder: string): number => readdirSync(`/proc/self/${folder}`).length;

async function withFile(use: (file: string, handle: FileHandle) => Promise<void>): Promise<void> {
  await using temporary = await makeTemporaryFolder();
  const file = path.join(temporary.path, 'file');
  await writeFile(file, bytes);
  const handle = await open(file);
  try {
    await use(file, handle);
  } finally {
    await handle.close();
  }
}

/** Starts and lengths of any kind, some of them beyond the end. */
function randomRanges(seed: number, count: number): [start: number, length: number][] {
  const numbers = randomNumbers(seed, 2 * count).map((x) => (x + 1) / 2);
  return Array.from({ length: count }, (_, i) => [
    Math.floor(numbers[2 * i]! * (SIZE + 5000)),
    Math.floor(numbers[2 * i + 1]! ** 3 * 20_000),
  ]);
}

const same = (a: Uint8Array, b: Uint8Array): boolean => Buffer.compare(a, b) === 0;
const wantedAt = (start: number, length: number): Uint8Array => bytes.subarray(start, start + length);

describe.runIf(process.platform === 'linux')('native reads', () => {
  it('give the bytes of any range, hundreds at once, as far as the file goes', () =>
    withFile(async (_file, handle) => {
      const lane = DiskLane.open()!;
      const reads = randomRanges(1, 500).map(async ([start, length]) => {
        const target = new Uint8Array(length);
        const found = await lane.read(handle.fd, start, target);
        expect(same(target.subarray(0, found), wantedAt(start, length)), `${length} from ${start} on`).toBe(true);
      });
      await Promise.all(reads);
      lane.close();
    }));

  it('that fail say why, and leave others alone', () =>
    withFile(async (_file, handle) => {
      const lane = DiskLane.open()!;
      const EBADF = -9;
      const results = await Promise.allSettled(
        Array.from({ length: 100 }, (_, i) => lane.read(i % 3 === 0 ? 99_999 : handle.fd, i, new Uint8Array(10))),
      );
      for (const [i, result] of results.entries())
        expect(result).toMatchObject(i % 3 === 0 ? { status: 'rejected', reason: { errno: EBADF } } : { value: 10 });
      await expect(lane.read(handle.fd, -1, new Uint8Array(10))).rejects.toThrow('failed with error 22 of the system');
      lane.close();
    }));

  it('have writes beside them, which are read again, and say when there is no room', () =>
    withFile(async (file) => {
      const lane = DiskLane.open()!;
      const handle = await open(file, 'r+');
      const pieces = Array.from({ length: 60 }, (_, i) => Uint8Array.from({ length: 1000 }, (__, j) => (i * 7 + j) % 256));
      await Promise.all(pieces.map((piece, i) => lane.write(handle.fd, 1000 * i, piece)));
      const found = new Uint8Array(60_000);
      expect(await lane.read(handle.fd, 0, found)).toBe(60_000);
      expect(pieces.every((piece, i) => same(piece, found.subarray(1000 * i, 1000 * (i + 1))))).toBe(true);
      await handle.close();
      const full = await open('/dev/full', 'w');
      await expect(lane.write(full.fd, 0, new Uint8Array(10))).rejects.toMatchObject({ code: 'ENOSPC' });
      await full.close();
      lane.close();
    }));

  it('go on until the last user has closed; then their threads end', () =>
    withFile(async (_file, handle) => {
      const before = countOf('task');
      const users = [DiskLane.open()!, DiskLane.open()!];
      expect(users[0]).toBe(users[1]);
      expect(countOf('task')).toBeGreaterThanOrEqual(before + 8);
      users[0]!.close();
      const target = new Uint8Array(100);
      expect(await users[1]!.read(handle.fd, 4000, target)).toBe(100);
      expect(target).toEqual(wantedAt(4000, 100));
      users[1]!.close();
      expect(countOf('task')).toBeLessThan(before + 8);
    }));
});

describe.runIf(process.platform === 'linux')('direct reads', () => {
  afterEach(() => void vi.restoreAllMocks());

  it.each(['our kernels', 'none'])('of any range, many at once, with %s, give what the file has', (kernels) =>
    withFile(async (file) => {
      if (kernels === 'none') vi.spyOn(DiskLane, 'open').mockReturnValue(undefined);
      await using direct = (await DirectReads.open(file))!;
      const reads = randomRanges(2, 200).map(async ([start, length], i) => {
        const target = i % 2 === 0 ? new Uint8Array(length) : directBuffer(length);
        const from = i % 4 === 1 ? start - (start % 4096) : start;
        const found = await direct.read(from, target);
        expect(same(target.subarray(0, found), wantedAt(from, found)), `${length} from ${from} on`).toBe(true);
        const rest = wantedAt(from, length).length - found;
        // Buffers that begin at a page are filled by whole pages.
        expect(rest).toBeGreaterThanOrEqual(0);
        expect(rest).toBeLessThan(4096);
        expect(found === 0 && rest > 0).toBe(false);
      });
      await Promise.all(reads);
    }),
  );

  it('that are under way end before they are closed; later ones fail', () =>
    withFile(async (file) => {
      const direct = (await DirectReads.open(file))!;
      const reads = randomRanges(3, 100).map(async ([start, length]) => {
        const target = new Uint8Array(length);
        const found = await direct.read(start, target);
        expect(same(target.subarray(0, found), wantedAt(start, length))).toBe(true);
      });
      await Promise.all([direct[Symbol.asyncDispose](), direct[Symbol.asyncDispose](), ...reads]);
      await expect(direct.read(0, new Uint8Array(10))).rejects.toThrow('after dispose');
    }));

  it('leave no file open and no thread behind', () =>
    withFile(async (file) => {
      const before = [countOf('fd'), countOf('task')];
      for (let i = 0; i < 50; i++) {
        await using direct = (await DirectReads.open(file))!;
        expect(await direct.read(5, new Uint8Array(100))).toBe(100);
      }
      // Node may start or end one of its own meanwhile.
      expect(countOf('fd')).toBeLessThan(before[0]! + 5);
      expect(countOf('task')).toBeLessThan(before[1]! + 5);
    }));

  it('are of the file that was opened, whatever has its name now', async () => {
    await using temporary = await makeTemporaryFolder();
    const file = path.join(temporary.path, 'file');
    const [place, length] = [32 << 20, 300 << 10];
    for (const [name, content] of [
      ['file', 1],
      ['other', 2],
    ] as const) {
      const handle = await open(path.join(temporary.path, name), 'w');
      await handle.truncate(64 << 20); // nearly all of it is a hole, and holes are not in the page cache
      await handle.write(new Uint8Array(length).fill(content), 0, length, place);
      await handle.close();
    }
    await using source = await openFile(file);
    await rename(path.join(temporary.path, 'other'), file);
    const target = directBuffer(length);
    await source.read(place, target);
    expect(new Set(target)).toEqual(new Set([1]));
  });
});
