import { execFileSync } from 'node:child_process';
import { truncate, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { fromBytes, openFile } from '../../../src/formats/byte-source.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeAll(async () => void (folder = await makeTemporaryFolder()));
afterAll(() => folder[Symbol.asyncDispose]());

const CONTENT = Uint8Array.from({ length: 100 }, (_, i) => i);

async function contentFile(name: string) {
  const path = join(folder.path, name);
  await writeFile(path, CONTENT);
  return path;
}

describe.each([
  ['file', async () => openFile(await contentFile('bytes'))],
  ['bytes', async () => fromBytes('bytes', CONTENT)],
])('byte source of a %s', (_kind, open) => {
  it('reads exactly the range', async () => {
    await using source = await open();
    const target = new Uint8Array(5);
    await source.read(37, target);
    expect([...target]).toEqual([37, 38, 39, 40, 41]);
    expect(source.byteLength).toBe(100);
  });

  it.each([
    [96, 5],
    [-1, 1],
    [0.5, 1],
    [2 ** 60, 1],
    [NaN, 1],
  ])('refuses a range from %d of %d bytes', async (start, length) => {
    await using source = await open();
    await expect(source.read(start, new Uint8Array(length))).rejects.toThrow(/asked for, but it has 100/);
  });
});

describe('openFile', () => {
  it('notices that the file became shorter', async () => {
    const path = await contentFile('shrinking');
    await using source = await openFile(path);
    await truncate(path, 50);
    await expect(source.read(40, new Uint8Array(20))).rejects.toThrow(/shrinking: ends at byte 50, 100 expected/);
  });

  it('refuses folders, pipes and missing files', async () => {
    await expect(openFile(folder.path)).rejects.toThrow(/is not a regular file/);
    await expect(openFile(join(folder.path, 'absent'))).rejects.toThrow(/absent: there is no such file/);
    if (process.platform === 'win32') return;
    const pipe = join(folder.path, 'pipe');
    execFileSync('mkfifo', [pipe]);
    await expect(openFile(pipe)).rejects.toThrow(/is not a regular file/);
  });
});
