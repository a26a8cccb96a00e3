import { appendFile, rename, rm, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/formats/checkpoint.ts';
import {
  f32Tensor,
  makeTemporaryFolder,
  safetensorsBytes,
  writeCheckpoint,
  type CheckpointFiles,
} from '../../helpers/write-safetensors.ts';
import { dict, f32Bytes, storage, tensor as torchTensor, torchZip } from '../../helpers/write-pytorch.ts';

let folder: string;
let temporary: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeEach(async () => {
  temporary = await makeTemporaryFolder();
  folder = join(temporary.path, 'a model');
});
afterEach(() => temporary[Symbol.asyncDispose]());

const INDEX = 'model.safetensors.index.json';
const SINGLE = { config: { model_type: 'opt' }, tensors: { a: f32Tensor([1, 2]), b: f32Tensor([3]) } };
const SHARDED = { shards: { 'x-1.safetensors': { a: f32Tensor([1, 2]) }, 'x-2.safetensors': { b: f32Tensor([3]), c: f32Tensor([4]) } } };
const index = (map: unknown) => ({ [INDEX]: JSON.stringify({ weight_map: map }) });

const BIN_INDEX = 'pytorch_model.bin.index.json';
const BIN = torchZip({ object: dict({ p: torchTensor(storage('0', 2), [2]) }), storages: { '0': f32Bytes([8, 9]) } });

async function valuesOf(tensor: { start: number; byteLength: number; source: { read(start: number, target: Uint8Array): Promise<void> } }) {
  const bytes = new Uint8Array(tensor.byteLength);
  await tensor.source.read(tensor.start, bytes);
  return [...new Float32Array(bytes.buffer)];
}

describe('openCheckpoint', () => {
  it('opens a single file', async () => {
    await writeCheckpoint(folder, { ...SINGLE, generationConfig: { top_p: 0.5 } });
    await using checkpoint = await openCheckpoint(folder);
    expect(checkpoint).toMatchObject({ folder, config: { model_type: 'opt' }, generationConfig: { top_p: 0.5 } });
    expect([...checkpoint.entries.keys()]).toEqual(['a', 'b']);
    expect(await valuesOf(checkpoint.entries.get('a')!)).toEqual([1, 2]);
  });

  it('opens shards, each tensor with its own file', async () => {
    await writeCheckpoint(folder, SHARDED);
    await using checkpoint = await openCheckpoint(folder);
    expect(checkpoint.generationConfig).toBeUndefined();
    expect([...checkpoint.entries.values()].map((e) => [e.name, e.source.name])).toEqual([
      ['a', join(folder, 'x-1.safetensors')],
      ['b', join(folder, 'x-2.safetensors')],
      ['c', join(folder, 'x-2.safetensors')],
    ]);
    expect(await valuesOf(checkpoint.entries.get('c')!)).toEqual([4]);
  });

  it('follows links, as caches have them', async () => {
    await writeCheckpoint(folder, { config: {} });
    await writeFile(join(temporary.path, 'blob'), safetensorsBytes(SINGLE.tensors));
    await symlink(join(temporary.path, 'blob'), join(folder, 'model.safetensors'));
    await using checkpoint = await openCheckpoint(folder);
    expect(checkpoint.entries.size).toBe(2);
  });

  it('takes the one file where there are both', async () => {
    await writeCheckpoint(folder, { ...SINGLE, files: index({ z: 'absent.safetensors' }) });
    await using checkpoint = await openCheckpoint(folder);
    expect(checkpoint.entries.size).toBe(2);
  });

  it.each<[string, CheckpointFiles, string[], number[]]>([
    ['one PyTorch file', { files: { 'pytorch_model.bin': BIN } }, ['p'], [8, 9]],
    ['PyTorch shards', { files: { 'm-1.bin': BIN, [BIN_INDEX]: JSON.stringify({ weight_map: { p: 'm-1.bin' } }) } }, ['p'], [8, 9]],
    ['safetensors rather than PyTorch', { ...SINGLE, files: { 'pytorch_model.bin': BIN } }, ['a', 'b'], [1, 2]],
    ['safetensors shards rather than PyTorch', { ...SHARDED, files: { 'pytorch_model.bin': BIN } }, ['a', 'b', 'c'], [1, 2]],
  ])('takes %s', async (_what, files, names, values) => {
    await writeCheckpoint(folder, files);
    await using checkpoint = await openCheckpoint(folder);
    expect([...checkpoint.entries.keys()]).toEqual(names);
    expect(await checkpoint.fingerprint()).toMatch(/^[0-9a-f]{64}$/);
    expect(await valuesOf(checkpoint.entries.get(names[0]!)!)).toEqual(values);
  });

  it('closes its files once, however often it is disposed', async () => {
    await writeCheckpoint(folder, SHARDED);
    const checkpoint = await openCheckpoint(folder);
    await checkpoint[Symbol.asyncDispose]();
    await checkpoint[Symbol.asyncDispose]();
    await expect(valuesOf(checkpoint.entries.get('a')!)).rejects.toMatchObject({ code: 'io' });
  });

  it.each<[string, CheckpointFiles, RegExp]>([
    ['a config that is no JSON', { ...SINGLE, config: '{"model_type": opt}' }, /config\.json: file is not JSON: /],
    ['a config that is an array', { ...SINGLE, config: [] }, /config\.json: file is not a JSON object but an array/],
    ['an empty config', { ...SINGLE, config: '' }, /config\.json: file is not JSON/],
    [
      'a generation config that is no object',
      { ...SINGLE, generationConfig: null },
      /generation_config\.json: .* not a JSON object but null/,
    ],
    [
      'a folder without weights',
      {},
      /a model: no weights found, looked for model\.safetensors, model\.safetensors\.index\.json, pytorch_model\.bin, pytorch_model\.bin\.index\.json$/,
    ],
    ['damaged PyTorch weights', { files: { 'pytorch_model.bin': 'x' } }, /pytorch_model\.bin: begins neither like a zip file nor/],
    ['other PyTorch files', { files: { 'model.pth': 'x' } }, /it has "model\.pth", a format that is not read yet/],
    ['GGUF weights', { files: { 'opt-q4.gguf': 'x' } }, /it has "opt-q4\.gguf": name that file instead/],
    [
      'a truncated file',
      { files: { 'model.safetensors': safetensorsBytes(SINGLE.tensors).subarray(0, -1) } },
      /model\.safetensors: tensors end at/,
    ],
    ['an index that is no JSON', { files: { [INDEX]: '' } }, /index\.json: file is not JSON/],
    ['an index without map', { files: { [INDEX]: '{}' } }, /weight_map must be an object of tensor and file names, got nothing/],
    ['a missing shard', { files: index({ a: 'm-1.safetensors' }) }, /1 of 1 shards are missing, the first is "m-1\.safetensors"/],
    ['a shard that is no name', { files: index({ a: 7 }) }, /tensor "a" is mapped to 7; the name of a file/],
    [
      'a shard above the folder',
      { files: index({ a: '../x' }) },
      /tensor "a" is mapped to "\.\.\/x"; the name of a file in the same folder/,
    ],
    ['a shard at an absolute path', { files: index({ a: '/etc/passwd' }) }, /mapped to "\/etc\/passwd"; the name/],
    ['a shard at a Windows path', { files: index({ a: '..\\x' }) }, /the name of a file in the same folder/],
    ['a shard that is the folder above', { files: index({ a: '..' }) }, /the name of a file in the same folder/],
    [
      'a PyTorch shard above the folder',
      { files: { [BIN_INDEX]: JSON.stringify({ weight_map: { a: '../x.bin' } }) } },
      /tensor "a" is mapped to "\.\.\/x\.bin"; the name of a file in the same folder/,
    ],
    [
      'a missing PyTorch shard',
      { files: { [BIN_INDEX]: JSON.stringify({ weight_map: { a: 'm-1.bin' } }) } },
      /1 of 1 shards are missing, the first is "m-1\.bin"/,
    ],
    [
      'a tensor that its PyTorch shard lacks',
      { files: { 'm-1.bin': BIN, [BIN_INDEX]: JSON.stringify({ weight_map: { z: 'm-1.bin' } }) } },
      /tensor "z" is mapped to "m-1\.bin", which does not have it/,
    ],
    [
      'a tensor that its shard lacks',
      { ...SHARDED, files: index({ a: 'x-2.safetensors' }) },
      /tensor "a" is mapped to "x-2\.safetensors", which does not/,
    ],
    [
      'too many shards',
      { files: index(Object.fromEntries(Array.from({ length: 801 }, (_, i) => [i, `${i}`]))) },
      /lists 801 shards, at most 800/,
    ],
  ])('refuses %s', async (_what, files, message) => {
    await writeCheckpoint(folder, files);
    await expect(openCheckpoint(folder)).rejects.toThrow(message);
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'format' });
  });

  it('names a damaged shard', async () => {
    await writeCheckpoint(folder, SHARDED);
    await appendFile(join(folder, 'x-2.safetensors'), 'x');
    await expect(openCheckpoint(folder)).rejects.toThrow(/x-2\.safetensors: tensors end at byte/);
  });

  it('refuses a folder without config', async () => {
    await writeCheckpoint(folder, SINGLE);
    await rm(join(folder, 'config.json'));
    await expect(openCheckpoint(folder)).rejects.toThrow(/a model: has no config\.json/);
  });

  it('calls a missing folder, or a file, a mistake of the caller', async () => {
    await writeFile(join(temporary.path, 'file'), '');
    await expect(openCheckpoint(folder)).rejects.toMatchObject({ code: 'usage', message: `${folder}: there is no such folder` });
    await expect(openCheckpoint(join(temporary.path, 'file'))).rejects.toMatchObject({
      code: 'usage',
      message: /is a file, a model folder/,
    });
  });
});

describe('fingerprint', () => {
  const BIG = { w: f32Tensor(Array.from({ length: 300_000 }, (_, i) => i)) };

  async function fingerprint(files: CheckpointFiles) {
    await rm(folder, { recursive: true, force: true });
    await writeCheckpoint(folder, files);
    await using checkpoint = await openCheckpoint(folder);
    return await checkpoint.fingerprint();
  }

  it('is the same wherever the folder lies', async () => {
    const first = await fingerprint(SHARDED);
    expect(first).toMatch(/^[0-9a-f]{64}$/);
    await rename(folder, `${folder} moved`);
    await using moved = await openCheckpoint(`${folder} moved`);
    expect(await moved.fingerprint()).toBe(first);
  });

  it('changes with configuration, tokenizer, tensor names, and weights at both ends and all over large files', async () => {
    const changed = BIG.w.data.slice();
    for (let i = 0; i < changed.length; i += 4096) changed[i]! ^= 1;
    const tail = BIG.w.data.slice();
    tail[tail.length - 1]! ^= 1;
    const all = [
      SINGLE,
      { ...SINGLE, config: {} },
      { ...SINGLE, files: { 'tokenizer.json': '{}' } },
      { ...SINGLE, files: { 'merges.txt': '{}' } },
      { ...SINGLE, tensors: { a: f32Tensor([1, 2]), c: f32Tensor([3]) } },
      { ...SINGLE, tensors: { a: f32Tensor([1, 2]), b: f32Tensor([4]) } },
      { tensors: BIG },
      { tensors: { w: { ...BIG.w, data: changed } } },
      { tensors: { w: { ...BIG.w, data: tail } } },
      { files: { 'pytorch_model.bin': BIN } },
      {
        files: {
          'pytorch_model.bin': torchZip({ object: dict({ q: torchTensor(storage('0', 2), [2]) }), storages: { '0': f32Bytes([8, 9]) } }),
        },
      },
    ];
    const prints = new Set<string>();
    for (const files of all) prints.add(await fingerprint(files));
    expect(prints.size).toBe(all.length);
  });
});
