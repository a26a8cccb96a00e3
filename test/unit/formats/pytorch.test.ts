import { createHash } from 'node:crypto';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromBytes, openFile } from '../../../src/formats/byte-source.ts';
import { readPytorch } from '../../../src/formats/pytorch.ts';
import { readTensor } from '../../../src/formats/read-tensor.ts';
import type { StoredTensor } from '../../../src/formats/tensor-entry.ts';
import { fixtureFolder } from '../../helpers/golden.ts';
import {
  build,
  dict,
  f32Bytes,
  global,
  int,
  orderedDict,
  pickle,
  reduce,
  storage,
  tensor,
  torchLegacy,
  torchZip,
  TRUE,
  tuple,
} from '../../helpers/write-pytorch.ts';

async function read(bytes: Uint8Array): Promise<StoredTensor[]> {
  const source = fromBytes('model.bin', bytes);
  const { entries } = await readPytorch(source);
  return entries.map((entry) => ({ ...entry, source }));
}

async function valuesOf(entry: StoredTensor): Promise<number[]> {
  const bytes = new Uint8Array(entry.byteLength);
  await readTensor(entry, 0, bytes);
  return [...new Float32Array(bytes.buffer)];
}

const SIX = { '0': f32Bytes([0, 1, 2, 3, 4, 5]) };
const STORAGE = storage('0', 6);

describe('files that torch wrote', () => {
  // The digests are of the elements in row-major order, taken with Python's own zipfile and pickle modules.
  it.each([
    ['opt-bin/pytorch_model-00001-of-00002.bin', 21, 'lm_head.weight', [160, 64], 'f8c7face62cfc36b'],
    ['opt-bin/pytorch_model-00001-of-00002.bin', 21, 'model.decoder.embed_tokens.weight', [160, 64], 'f8c7face62cfc36b'],
    ['opt-bin/pytorch_model-00002-of-00002.bin', 16, 'model.decoder.layers.1.fc2.weight', [64, 160], '333af17173a162bf'],
    ['opt-bin-old/pytorch_model.bin', 36, 'decoder.layers.0.fc1.weight', [160, 64], '4364aea76e8d63e1'],
    ['opt-bin-old/pytorch_model.bin', 36, 'decoder.layers.0.fc2.weight', [64, 160], '13eab5b03876ed89'],
    ['opt-bin-old/pytorch_model.bin', 36, 'decoder.layers.1.fc2.weight', [64, 160], '55f8743cab5caed2'],
    ['opt-bin-old/pytorch_model.bin', 36, 'decoder.layers.1.fc1.bias', [160], 'e8c30c5139cab580'],
  ])('%s: %i tensors, among them %s %j', async (path, count, name, shape, digest) => {
    const [model, file] = path.split('/') as ['opt-bin' | 'opt-bin-old', string];
    await using source = await openFile(join(fixtureFolder(model), file));
    const { entries } = await readPytorch(source);
    expect(entries).toHaveLength(count);
    const entry = entries.find((candidate) => candidate.name === name)!;
    expect(entry).toMatchObject({ dtype: 'F16', shape });
    const bytes = new Uint8Array(entry.byteLength);
    await readTensor({ ...entry, source }, 0, bytes);
    expect(createHash('sha256').update(bytes).digest('hex').slice(0, 16)).toBe(digest);
  });

  it('tied weights lie in the same bytes, and only views that need them have strides', async () => {
    const [zipped, old] = await Promise.all(
      [join(fixtureFolder('opt-bin'), 'pytorch_model-00001-of-00002.bin'), join(fixtureFolder('opt-bin-old'), 'pytorch_model.bin')].map(
        async (path) => {
          await using source = await openFile(path);
          return (await readPytorch(source)).entries;
        },
      ),
    );
    const place = (name: string) => zipped!.find((entry) => entry.name === name)!.start;
    expect(place('lm_head.weight')).toBe(place('model.decoder.embed_tokens.weight'));
    expect([...zipped!, ...old!].filter(({ strides }) => strides).map(({ name, strides }) => [name, strides])).toEqual([
      ['decoder.layers.0.fc1.weight', [1, 160]],
    ]);
  });
});

describe('readPytorch', () => {
  const object = dict({ b: tensor(STORAGE, [2, 3]), a: tensor(storage('1', 1), []) });

  it.each([
    ['zip', torchZip({ object, storages: { ...SIX, '1': f32Bytes([7]) } })],
    ['zip64', torchZip({ object, storages: { ...SIX, '1': f32Bytes([7]) } }, { zip64: true })],
    ['zip with a comment', torchZip({ object, storages: { ...SIX, '1': f32Bytes([7]) } }, { comment: 'a comment' })],
    [
      'zip with a comment like an end',
      torchZip({ object, storages: { ...SIX, '1': f32Bytes([7]) } }, { comment: `PK\u0005\u0006${'\0'.repeat(30)}` }),
    ],
    ['older', torchLegacy({ object, storages: [['0', 6, SIX['0']], ['1', 1, f32Bytes([7])]] })], // prettier-ignore
  ])('lists tensors in file order: %s', async (_what, bytes) => {
    const entries = await read(bytes);
    expect(entries.map(({ name, dtype, shape, byteLength }) => [name, dtype, shape, byteLength])).toEqual([
      ['b', 'F32', [2, 3], 24],
      ['a', 'F32', [], 4],
    ]);
    expect(await Promise.all(entries.map(valuesOf))).toEqual([[0, 1, 2, 3, 4, 5], [7]]);
  });

  it.each<[string, Parameters<typeof tensor>, number[]]>([
    ['a transposed view', [STORAGE, [3, 2], [1, 3]], [0, 3, 1, 4, 2, 5]],
    ['a slice', [STORAGE, [3], [1], 3], [3, 4, 5]],
    ['a column', [STORAGE, [2, 1], [3, 1], 1], [1, 4]],
    ['every second element', [STORAGE, [3], [2]], [0, 2, 4]],
    ['an expanded view', [STORAGE, [2, 2], [0, 1], 4], [4, 5, 4, 5]],
    ['three permuted dimensions', [STORAGE, [3, 1, 2], [1, 7, 3]], [0, 3, 1, 4, 2, 5]],
    ['nothing, at the very end', [STORAGE, [0, 4], [4, 1], 6], []],
    ['one element with any strides', [STORAGE, [1, 1], [99, 99], 5], [5]],
  ])('reads %s', async (_what, args, expected) => {
    const [entry] = await read(torchZip({ object: dict({ a: tensor(...args) }), storages: SIX }));
    expect(await valuesOf(entry!)).toEqual(expected);
  });

  it('says no strides where they mean nothing', async () => {
    const shapes = { one: tensor(STORAGE, [1, 6], [99, 1]), none: tensor(STORAGE, [0, 4], [1, 7]) };
    const entries = await read(torchZip({ object: dict(shapes), storages: SIX }));
    expect(entries.map(({ name, strides }) => [name, strides])).toEqual([
      ['none', undefined],
      ['one', undefined],
    ]);
  });

  it('takes dictionaries with state, parameters, GPU storages and old rebuild functions', async () => {
    const parameter = reduce(global('torch._utils', '_rebuild_parameter'), tuple(tensor(STORAGE, [6]), TRUE, orderedDict()));
    const old = reduce(
      global('torch._utils', '_rebuild_tensor'),
      tuple(storage('0', 6), int(0), reduce(global('torch', 'Size'), tuple(tuple(int(6)))), tuple(int(1))),
    );
    const cuda = tensor(storage('1', 2, { type: 'HalfStorage', module: 'torch.cuda' }), [2]);
    const state = dict({ _metadata: dict({ '': dict({ version: int(1) }) }, orderedDict()) });
    const entries = await read(
      torchZip({ object: build(dict({ a: parameter, b: old, c: cuda }, orderedDict()), state), storages: { ...SIX, '1': [0, 0, 0, 0] } }),
    );
    expect(entries.map(({ name, dtype }) => [name, dtype])).toEqual([
      ['a', 'F32'],
      ['b', 'F32'],
      ['c', 'F16'],
    ]);
  });

  it.each([2, 3, 4, 5])('reads protocol %i', async (protocol) => {
    const text = (value: string) => [0x8c, value.length, ...new TextEncoder().encode(value), 0x94];
    const stackGlobal = (module: string, name: string) => [...text(module), ...text(name), 0x93, 0x94];
    const id = [0x28, ...text('storage'), ...stackGlobal('torch', 'FloatStorage'), ...text('0'), ...text('cpu'), 0x4b, 6, 0x74, 0x94, 0x51];
    const args = [0x28, ...id, 0x4b, 0, 0x4b, 6, 0x85, 0x94, 0x4d, 1, 0, 0x85, 0x94, 0x89, 0x7d, 0x94, 0x74, 0x94];
    const frame = [0x95, 9, 0, 0, 0, 0, 0, 0, 0];
    const body = [...frame, 0x7d, 0x94, ...text('a'), ...stackGlobal('torch._utils', '_rebuild_tensor_v2'), ...args, 0x52, 0x94, 0x73];
    const parts = torchZip({ object: body, storages: SIX });
    parts[parts.indexOf(0x80) + 1] = protocol;
    const entries = await read(parts);
    expect(entries.map(({ name, shape }) => [name, shape])).toEqual([['a', [6]]]);
  });

  it('takes names that are special in JavaScript for ordinary ones', async () => {
    const special = dict({ ['__proto__']: tensor(STORAGE, [6]), constructor: tensor(STORAGE, [6]) });
    const entries = await read(torchZip({ object: special, storages: SIX }));
    expect(entries.map(({ name }) => name)).toEqual(['__proto__', 'constructor']);
  });

  it('reads pickles longer than what is read at first', async () => {
    const long = dict(Object.fromEntries(Array.from({ length: 9000 }, (_, i) => [`t${i}`, tensor(STORAGE, [6])])));
    expect(pickle(long).length).toBeGreaterThan(1 << 20);
    const entries = await read(torchLegacy({ object: long, storages: [['0', 6, SIX['0']]] }));
    expect(entries).toHaveLength(9000);
  });
});
