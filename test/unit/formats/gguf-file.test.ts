import { rename, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/formats/checkpoint.ts';
import { openGguf } from '../../../src/formats/gguf/gguf-file.ts';
import { encodeGgufHeader, type GgufEntry } from '../../../src/formats/gguf/gguf-writer.ts';
import { readTensor } from '../../../src/formats/read-tensor.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

type Content = Readonly<Record<string, readonly number[]>>;

/** A GGUF file of F32 tensors. */
function ggufFile(tensors: Content, metadata: Readonly<Record<string, GgufEntry>> = {}): Uint8Array {
  const list = Object.entries(tensors).map(([name, { length }]) => ({ name, dtype: 'F32' as const, shape: [length] }));
  const { header, offsets, totalBytes } = encodeGgufHeader({ metadata: new Map(Object.entries(metadata)), tensors: list, alignment: 32 });
  const bytes = new Uint8Array(totalBytes);
  bytes.set(header);
  for (const [i, values] of Object.values(tensors).entries()) bytes.set(new Uint8Array(Float32Array.from(values).buffer), offsets[i]);
  return bytes;
}

const split = (no: number, count: number, tensors: number): Record<string, GgufEntry> => ({
  'split.no': { type: 'u16', value: no },
  'split.count': { type: 'u16', value: count },
  'split.tensors.count': { type: 'i32', value: tensors },
});

const partName = (i: number, count: number): string => `m-0000${i}-of-0000${count}.gguf`;

const THREE: readonly Uint8Array[] = [
  ggufFile({}, { name: { type: 'string', value: 'first' }, ...split(0, 3, 3) }),
  ggufFile({ a: [1, 2], b: [3] }, split(1, 3, 3)),
  ggufFile({ c: [4] }, split(2, 3, 3)),
];

async function withParts<T>(parts: readonly (Uint8Array | undefined)[], use: (folder: string) => Promise<T>): Promise<T> {
  await using folder = await makeTemporaryFolder();
  for (const [i, part] of parts.entries()) if (part) await writeFile(join(folder.path, partName(i + 1, parts.length)), part);
  return await use(folder.path);
}

async function fingerprintOf(bytes: Uint8Array, name = 'm.gguf'): Promise<string> {
  await using folder = await makeTemporaryFolder();
  await writeFile(join(folder.path, name), bytes);
  await using file = await openGguf(join(folder.path, name));
  return await file.fingerprint();
}

describe('openGguf', () => {
  it('opens one file', async () => {
    await using folder = await makeTemporaryFolder();
    const path = join(folder.path, 'one.gguf');
    await writeFile(path, ggufFile({ a: [1, 2], b: [3] }, { name: { type: 'string', value: 'one' } }));
    await using file = await openGguf(path);
    expect([file.file, file.metadata.get('name'), file.files.map(({ name }) => name)]).toEqual([path, 'one', ['one.gguf']]);
    const target = new Float32Array(1);
    await readTensor(file.entries.get('b')!, 0, new Uint8Array(target.buffer));
    expect([...file.entries.keys(), ...target]).toEqual(['a', 'b', 3]);
  });

  it.each([1, 2, 3])('opens all parts of a model by the name of part %i; the first one says what it is', async (i) => {
    await withParts(THREE, async (folder) => {
      await using file = await openGguf(join(folder, partName(i, 3)));
      expect([file.file, file.metadata.get('name')]).toEqual([join(folder, partName(1, 3)), 'first']);
      expect(file.files.map(({ name }) => name)).toEqual([1, 2, 3].map((part) => partName(part, 3)));
      const target = new Float32Array(1);
      await readTensor(file.entries.get('c')!, 0, new Uint8Array(target.buffer));
      expect([[...file.entries.keys()], target[0]]).toEqual([['a', 'b', 'c'], 4]);
    });
  });

  it('opens a model that is named as part 1 of 1', async () => {
    await withParts([ggufFile({ a: [1] })], async (folder) => {
      await using file = await openGguf(join(folder, partName(1, 1)));
      expect([...file.entries.keys()]).toEqual(['a']);
    });
  });

  const [first, second, third] = THREE as [Uint8Array, Uint8Array, Uint8Array];
  it.each<[string, readonly (Uint8Array | undefined)[], RegExp]>([
    [
      'missing parts',
      [first, undefined, undefined],
      /m-00001-of-00003\.gguf: 2 of 3 parts are missing, the first is "m-00002-of-00003\.gguf"/,
    ],
    ['parts in the wrong order', [first, third, second], /m-00002-of-00003\.gguf: split\.no is 2, 1 expected/],
    [
      'a part of another model',
      [first, ggufFile({ a: [1] }, split(1, 2, 3)), third],
      /00002-of-00003\.gguf: split\.count is 2, 3 expected/,
    ],
    ['a part without its number', [first, second, ggufFile({ c: [4] })], /00003-of-00003\.gguf: split\.count is nothing, 3 expected/],
    ['lost tensors', [first, second, ggufFile({}, split(2, 3, 3))], /00001-of-00003\.gguf: split\.tensors\.count is 3, 2 expected/],
    [
      'a tensor in two parts',
      [first, second, ggufFile({ a: [4] }, split(2, 3, 3))],
      /00003\.gguf: tensor "a" is also in m-00002-of-00003\.gguf/,
    ],
    ['a damaged part', [first, second, third.subarray(0, -32)], /m-00003-of-00003\.gguf: tensor "c" ends at byte/],
  ])('refuses %s', async (_what, parts, message) => {
    await withParts(parts, async (folder) => {
      await expect(openGguf(join(folder, partName(1, 3)))).rejects.toThrow(message);
      await expect(openGguf(join(folder, partName(1, 3)))).rejects.toMatchObject({ code: 'format' });
    });
  });

  it.each<[string, string, RegExp]>([
    ['a part with another name', 'renamed.gguf', /split\.count is 3, 1 expected; parts of a model are found by names like/],
    ['part 4 of 3', 'm-00004-of-00003.gguf', /is named as part 4 of 3/],
    ['too many parts', 'm-00001-of-99999.gguf', /is named as part 1 of 99999; 1 to 800 parts are read/],
  ])('refuses %s', async (_what, name, message) => {
    await using folder = await makeTemporaryFolder();
    await writeFile(join(folder.path, name), second);
    await expect(openGguf(join(folder.path, name))).rejects.toThrow(message);
  });

  it('is what a folder without configuration points to', async () => {
    await withParts(THREE, (folder) =>
      expect(openCheckpoint(folder)).rejects.toThrow(
        /has no config\.json; .*; it has "m-00001-of-00003\.gguf": name that file instead of the folder/,
      ),
    );
  });

  it('refuses a file that is not there', async () => {
    await expect(openGguf('/nowhere/m.gguf')).rejects.toThrow('/nowhere/m.gguf: there is no such file');
  });

  it('has a fingerprint of metadata, tables and weights, not of names', async () => {
    const name = { name: { type: 'string', value: 'x' } } as const;
    const plain = await fingerprintOf(ggufFile({ a: [1, 2] }, name));
    expect(plain).toMatch(/^[0-9a-f]{64}$/);
    expect(await fingerprintOf(ggufFile({ a: [1, 2] }, name), 'other.gguf')).toBe(plain);
    const others = [
      ggufFile({ a: [1, 3] }, name),
      ggufFile({ b: [1, 2] }, name),
      ggufFile({ a: [1, 2] }, { name: { type: 'string', value: 'y' } }),
    ];
    const prints = await Promise.all(others.map((bytes) => fingerprintOf(bytes)));
    expect(new Set([plain, ...prints]).size).toBe(4);
  });

  it('has one fingerprint for a model in parts, which every part counts for', async () => {
    const changed = ggufFile({ c: [5] }, split(2, 3, 3));
    const prints = [];
    for (const parts of [THREE, THREE, [first, second, changed]]) {
      prints.push(
        await withParts(parts, async (folder) => {
          // From the second on under another name.
          if (prints.length > 0)
            for (const i of [1, 2, 3]) await rename(join(folder, partName(i, 3)), join(folder, `n${partName(i, 3).slice(1)}`));
          await using file = await openGguf(join(folder, prints.length > 0 ? 'n-00002-of-00003.gguf' : partName(1, 3)));
          return await file.fingerprint();
        }),
      );
    }
    expect(prints[1]).toBe(prints[0]);
    expect(prints[2]).not.toBe(prints[0]);
  });
});
