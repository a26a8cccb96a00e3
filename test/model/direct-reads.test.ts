import { open, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { DirectReads } from '../../src/formats/direct-reads.ts';
import { directBuffer, cachedShare } from '../../src/native/page-cache.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const SIZE = 3 * 4096 + 77;
const bytes = Uint8Array.from({ length: SIZE }, (_, i) => (i * 31 + (i >> 8)) % 251);
const isLinux = process.platform === 'linux';

describe.runIf(isLinux)('direct reads', () => {
  it.each([
    [0, 4096],
    [0, 1],
    [1, 4096],
    [4095, 2],
    [5000, 7000],
    [4096, SIZE - 4096],
    [SIZE - 1, 1],
  ])('give the bytes from %i on, %i of them', async (start, length) => {
    await using temporary = await makeTemporaryFolder();
    const file = path.join(temporary.path, 'file');
    await writeFile(file, bytes);
    await using direct = await DirectReads.open(file);
    if (!direct) return; // a file system in memory has none
    const target = new Uint8Array(length);
    for (let again = 0; again < 2; again++) {
      expect(await direct.read(start, target.fill(0))).toBe(length);
      expect(target).toEqual(bytes.subarray(start, start + length));
    }
  });

  it('say how much of a file there was', async () => {
    await using temporary = await makeTemporaryFolder();
    const file = path.join(temporary.path, 'file');
    await writeFile(file, bytes);
    await using direct = await DirectReads.open(file);
    if (!direct) return;
    await truncate(file, 5000);
    expect(await direct.read(4000, new Uint8Array(3000))).toBe(1000);
    expect(await direct.read(6000, new Uint8Array(10))).toBe(0);
  });

  it('are not for small files', async () => {
    await using temporary = await makeTemporaryFolder();
    const file = path.join(temporary.path, 'file');
    await writeFile(file, bytes);
    const handle = await open(file);
    expect(await DirectReads.openIfFaster(handle, SIZE)).toBeUndefined();
    await handle.close();
  });
});

it.runIf(isLinux)('what was just written is in the page cache', async () => {
  await using temporary = await makeTemporaryFolder();
  const file = path.join(temporary.path, 'file');
  await writeFile(file, bytes);
  const handle = await open(file);
  expect(cachedShare(handle.fd, SIZE)).toBe(1);
  expect(cachedShare(handle.fd, 0)).toBeUndefined();
  await handle.close();
});

it('aligned buffers have their size', () => expect(directBuffer(5000).byteLength).toBe(5000));
