import { truncate } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { openCheckpoint } from '../../../src/formats/checkpoint.ts';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import { readSafetensors } from '../../../src/formats/safetensors.ts';
import type { LayerSpec, WeightSpec } from '../../../src/models/model.ts';
import type { Tensor } from '../../../src/tensor/device.ts';
import { bf16ToF32, f16ToF32 } from '../../../src/tensor/dtype.ts';
import { checkpointWeights } from '../../../src/weights/checkpoint-weights.ts';
import { dummyWeights } from '../../../src/weights/dummy-weights.ts';
import { WeightStore } from '../../../src/weights/weight-store.ts';
import type { WeightSource } from '../../../src/weights/weight-source.ts';
import { makeFakeDevice } from '../../helpers/fake-device.ts';
import {
  f32Tensor,
  halfTensor,
  makeTemporaryFolder,
  safetensorsBytes,
  type Tensors,
  writeCheckpoint,
} from '../../helpers/write-safetensors.ts';

const spec = (name: string, shape: number[], role: WeightSpec['role'] = 'matrix'): WeightSpec => ({ name, shape, role, sources: [name] });
const layer = (name: string, ...weights: WeightSpec[]): LayerSpec => ({
  name,
  weights,
  attends: false,
  build: () => ({ node: 0, rows: 0, columns: 0 }),
});
const AUTO = { compute: 'auto' } as const;

/** Two layers and a head that shares the table of the first. */
const TIED = spec('tokens', [4, 2], 'table');
const LAYERS = [layer('embed', TIED), layer('layer 0', spec('w', [2, 2]), spec('b', [2], 'vector')), layer('head', TIED)];
const TENSORS: Tensors = {
  tokens: f32Tensor([1, 2, 3, 4, 5, 6, 7, 8], [4, 2]),
  w: f32Tensor([9, 10, 11, 12], [2, 2]),
  b: f32Tensor([13, 14]),
};

async function sourceOf(tensors: Tensors, options?: { padding: number }): Promise<WeightSource> {
  const source = fromBytes('model.safetensors', safetensorsBytes(tensors, options));
  const entries = new Map((await readSafetensors(source)).map((entry) => [entry.name, { ...entry, source }]));
  return checkpointWeights({ folder: '.', entries });
}

/** A device whose writes to the tensor `name` wait until `open` is called. */
function gatedDevice(name: string) {
  let open = () => {};
  const gate = new Promise<void>((resolve) => (open = resolve));
  return { device: makeFakeDevice({ beforeWrite: (tensor: Tensor) => (tensor.name === name ? gate : undefined) }), open };
}

/** Far faster on megabytes than `toEqual`. */
const sameBytes = (a: Uint8Array, b: Uint8Array | Float32Array) =>
  Buffer.compare(a, new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) === 0;
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('WeightStore', () => {
  it('has every layer on the device, a tied weight once', async () => {
    const device = makeFakeDevice();
    await using store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    expect([store.bytes, device.memory().usedBytes]).toEqual([56, 0]);
    store.start();
    await store.loaded();
    expect([device.memory().usedBytes, device.live().sort()]).toEqual([56, ['b', 'tokens', 'w']]);
    const [embed, block, head] = await Promise.all([0, 1, 2].map((index) => store.acquire(index)));
    expect([...block!.keys()]).toEqual(['w', 'b']);
    const [segment] = embed!.get('tokens')!.segments;
    expect(segment).toMatchObject({ from: 0, to: 4, layout: 'gguf', home: 'cpu' });
    expect(head!.get('tokens')!.segments[0]!.tensor).toBe(segment!.tensor);
    for (const name of ['tokens', 'w', 'b']) expect(device.contents(name)).toEqual(TENSORS[name]!.data);
    expect(store.loadSeconds).toBeGreaterThan(0);
  });

  it.each([
    ['F16', f16ToF32],
    ['BF16', bf16ToF32],
  ] as const)('widens %s exactly, from any byte of the file', async (dtype, widen) => {
    // An odd number of patterns that are no NaN in either type.
    const bits = Uint16Array.from({ length: 0x7c01 }, (_, i) => i);
    for (const padding of [0, 1, 2, 3]) {
      const device = makeFakeDevice();
      const source = await sourceOf({ w: halfTensor(dtype, bits) }, { padding });
      await using store = new WeightStore(device, { layers: [layer('only', spec('w', [bits.length], 'vector'))] }, source, AUTO);
      store.start();
      await store.loaded();
      expect(sameBytes(device.contents('w'), Float32Array.from(bits, widen))).toBe(true);
    }
  });

  it.each(['f32', 'f16', 'bf16'] as const)('keeps %s as it is where the device takes it, over many pieces', async (dtype) => {
    const device = makeFakeDevice({ capabilities: { exactWeights: ['f32', dtype], weights: ['f32', dtype] } });
    const count = 3_000_003;
    const source = dummyWeights({ dtype });
    await using store = new WeightStore(device, { layers: [layer('only', spec('w', [count, 1]))] }, source, AUTO);
    store.start();
    await store.loaded();
    const whole = new Uint8Array(store.bytes);
    await source.find(spec('w', [count, 1]), '').read(0, whole);
    expect(sameBytes(device.contents('w'), whole)).toBe(true);
  });

  it('widens over many pieces', async () => {
    const device = makeFakeDevice();
    const count = 3_000_003;
    const source = dummyWeights({ dtype: 'f16' });
    await using store = new WeightStore(device, { layers: [layer('only', spec('w', [count, 1]))] }, source, AUTO);
    store.start();
    await store.loaded();
    const halves = new Uint16Array(count);
    await source.find(spec('w', [count, 1]), '').read(0, new Uint8Array(halves.buffer));
    expect(sameBytes(device.contents('w'), Float32Array.from(halves, f16ToF32))).toBe(true);
  });

  it('gives out a layer while the next one is still loaded', async () => {
    const { device, open } = gatedDevice('w');
    await using store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    store.start();
    await store.acquire(0);
    const next = store.acquire(1);
    expect(await Promise.race([next.then(() => 'ready'), settle().then(() => 'waiting')])).toBe('waiting');
    expect(store.loadSeconds).toBe(0);
    open();
    expect((await next).size).toBe(2);
    store.release(0);
    store.release(1);
  });

  it('fails before any byte is read when a late layer is wrong', async () => {
    const device = makeFakeDevice();
    const layers = [...LAYERS, layer('last', spec('absent', [1], 'vector'))];
    const source = await sourceOf(TENSORS);
    expect(() => new WeightStore(device, { layers }, source, AUTO)).toThrow(/no tensor for absent of last; tried absent/);
    expect(device.memory().peakBytes).toBe(0);
  });

  it('tells whoever acquires a layer what could not be read, and frees everything', async () => {
    await using folder = await makeTemporaryFolder();
    await writeCheckpoint(folder.path, { tensors: TENSORS });
    await using checkpoint = await openCheckpoint(folder.path);
    const device = makeFakeDevice();
    const store = new WeightStore(device, { layers: LAYERS }, checkpointWeights(checkpoint), AUTO);
    const file = join(folder.path, 'model.safetensors');
    await truncate(file, checkpoint.entries.get('b')!.start + 4);
    store.start();
    await settle();
    await expect(store.acquire(0)).resolves.toBeDefined();
    const expected = {
      code: 'format',
      facts: { file, tensor: 'b' },
      message: expect.stringMatching(/tensor "b" cannot be read: .* ends at byte/),
    };
    await expect(store.acquire(1)).rejects.toMatchObject(expected);
    await expect(store.acquire(2)).rejects.toMatchObject(expected);
    await expect(store.loaded()).rejects.toMatchObject(expected);
    await store[Symbol.asyncDispose]();
    expect(device.live()).toEqual([]);
  });

  it('passes on a failed write', async () => {
    const device = makeFakeDevice({
      beforeWrite: ({ name }) => {
        if (name === 'w') throw new Error('device lost');
      },
    });
    await using store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    store.start();
    await store.acquire(0);
    await expect(store.acquire(1)).rejects.toThrow('device lost');
  });

  it('frees what it has when the device is full', async () => {
    const device = makeFakeDevice({ bytes: 50 });
    const store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    expect(() => store.start()).toThrow(/b needs 8 bytes, 2 are free/);
    await store[Symbol.asyncDispose]();
    expect(device.live()).toEqual([]);
  });

  it('stops at the signal and frees everything on disposal', async () => {
    const { device, open } = gatedDevice('w');
    const abort = new AbortController();
    const store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), { ...AUTO, signal: abort.signal });
    store.start();
    await store.acquire(0);
    abort.abort(new Error('stopped by the user'));
    open();
    await expect(store.acquire(1)).rejects.toThrow('stopped by the user');
    await store[Symbol.asyncDispose]();
    expect(device.live()).toEqual([]);
  });

  it('frees every tensor once when disposed in the middle of loading, after the write in flight', async () => {
    const { device, open } = gatedDevice('w');
    const store = new WeightStore(device, { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    store.start();
    await store.acquire(0);
    const problem = store.acquire(1).catch((error: unknown) => error);
    const disposal = store[Symbol.asyncDispose]();
    await settle();
    expect(device.live()).toHaveLength(3);
    open();
    await Promise.all([disposal, store[Symbol.asyncDispose]()]);
    expect(String(await problem)).toMatch(/freed while they were loaded/);
    expect(device.live()).toEqual([]);
    await expect(store.acquire(0)).rejects.toThrow(/acquire after dispose/);
  });

  it('refuses misuse', async () => {
    const store = new WeightStore(makeFakeDevice(), { layers: LAYERS }, await sourceOf(TENSORS), AUTO);
    await expect(store.acquire(0)).rejects.toThrow(/acquire before start/);
    expect(() => store.release(0)).toThrow(/layer 0 is released but was not acquired/);
    store.start();
    expect(() => store.start()).toThrow(/start called twice/);
    await expect(store.acquire(3)).rejects.toThrow(/there is no layer 3/);
    await store[Symbol.asyncDispose]();
  });
});
