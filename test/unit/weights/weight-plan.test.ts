import { describe, expect, it } from 'vitest';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import { readSafetensors } from '../../../src/formats/safetensors.ts';
import type { LayerSpec, WeightSpec } from '../../../src/models/model.ts';
import { bf16ToF32, byteLengthOf, f32ToBf16, type WeightType } from '../../../src/tensor/dtype.ts';
import { checkpointWeights } from '../../../src/weights/checkpoint-weights.ts';
import { type Compute, deviceTypeOf, planWeights, plannedWeightBytes } from '../../../src/weights/weight-plan.ts';
import { f32Tensor, halfTensor, safetensorsBytes, type Tensors } from '../../helpers/write-safetensors.ts';

const spec = (name: string, shape: number[], role: WeightSpec['role'] = 'matrix', sources = [name]): WeightSpec => ({
  name,
  shape,
  role,
  sources,
});
const layer = (name: string, ...weights: WeightSpec[]): LayerSpec => ({
  name,
  weights,
  attends: false,
  build: () => ({ node: 0, rows: 0, columns: 0 }),
});
const EXACT = { exactWeights: ['f32'], weights: ['f32', 'bf16'] } as const;

async function sourceOf(tensors: Tensors) {
  const source = fromBytes('some/model.safetensors', safetensorsBytes(tensors));
  const entries = new Map((await readSafetensors(source)).map((entry) => [entry.name, { ...entry, source }]));
  return checkpointWeights({ folder: 'some', entries });
}

type DeviceTypes = [exact: WeightType[], rounding: WeightType[]];

describe('deviceTypeOf', () => {
  const f32: WeightType[] = ['f32'];
  const all: WeightType[] = ['f32', 'f16', 'bf16'];
  it.each<[WeightType, WeightSpec['role'], Compute, DeviceTypes, WeightType]>([
    // stored, role, compute, exact and rounding types of the device -> type on the device
    ['f32', 'matrix', 'auto', [f32, all], 'f32'],
    ['f16', 'matrix', 'auto', [f32, all], 'f32'],
    ['f16', 'matrix', 'auto', [['f32', 'f16'], all], 'f16'],
    ['f16', 'matrix', 'f32', [['f32', 'f16'], all], 'f16'],
    ['f16', 'table', 'auto', [['f32', 'f16'], all], 'f16'],
    ['f16', 'vector', 'auto', [all, all], 'f32'],
    ['bf16', 'matrix', 'auto', [f32, all], 'bf16'],
    ['bf16', 'table', 'auto', [f32, all], 'bf16'],
    ['bf16', 'matrix', 'auto', [f32, f32], 'f32'],
    ['bf16', 'matrix', 'f32', [f32, all], 'f32'],
    ['bf16', 'matrix', 'f32', [all, all], 'bf16'],
    ['bf16', 'vector', 'auto', [all, all], 'f32'],
    ['bf16', 'router', 'auto', [all, all], 'f32'],
  ])('%s as %s with compute %s on %j: %s', (stored, role, compute, [exactWeights, weights], expected) => {
    expect(deviceTypeOf(stored, role, { exactWeights, weights }, compute)).toBe(expected);
  });
});

describe('planWeights', () => {
  it('counts a tied weight once', async () => {
    const source = await sourceOf({ tokens: f32Tensor([1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12], [4, 3]), norm: f32Tensor([1, 1, 1]) });
    const tied = spec('tokens', [4, 3], 'table');
    const layers = [layer('embed', tied), layer('head', spec('norm', [3], 'vector'), { ...tied, role: 'matrix' })];
    const plan = planWeights({ layers }, source, EXACT, 'auto');
    expect(plan.bytes).toBe(12 * 4 + 3 * 4);
    expect(plan.layers[0]![0]).toBe(plan.layers[1]![1]);
    expect(plan.weights.map(({ spec: { name } }) => name)).toEqual(['tokens', 'norm']);
  });

  it('counts bytes as the device has them', async () => {
    const source = await sourceOf({ w: halfTensor('BF16', [0, 0, 0, 0], [2, 2]), b: halfTensor('BF16', [0, 0]) });
    const layers = [layer('layer 0', spec('w', [2, 2]), spec('b', [2], 'vector'))];
    const bytes = (compute: Compute) => plannedWeightBytes({ layers }, source, { capabilities: EXACT }, compute);
    expect([bytes('auto'), bytes('f32')]).toEqual([4 * 2 + 2 * 4, 4 * 4 + 2 * 4]);
  });

  it('takes the first source name that exists', async () => {
    const source = await sourceOf({ 'decoder.w': f32Tensor([1]), w: f32Tensor([2]) });
    const bytes = new Uint8Array(4);
    await source.find(spec('w', [1], 'vector', ['model.w', 'decoder.w', 'w']), 'layer 0').read(0, bytes);
    expect(new Float32Array(bytes.buffer)[0]).toBe(1);
  });

  it.each<[string, Partial<WeightSpec>, number[]]>([
    ['the first rows', { shape: [1, 2], rows: { from: 0, of: 3 } }, [1, 2]],
    ['the last rows', { shape: [2, 2], rows: { from: 1, of: 3 } }, [3, 4, 5, 6]],
    ['rows and an offset', { shape: [2, 2], rows: { from: 1, of: 3 }, offset: 0.5 }, [3.5, 4.5, 5.5, 6.5]],
  ])('reads %s of a tensor', async (_what, part, wanted) => {
    for (const tensor of [f32Tensor([1, 2, 3, 4, 5, 6], [3, 2]), halfTensor('BF16', [1, 2, 3, 4, 5, 6].map(f32ToBf16), [3, 2])]) {
      const source = await sourceOf({ before: f32Tensor([9]), w: tensor, behind: f32Tensor([9]) });
      const found = source.find({ ...spec('w', []), ...part }, 'layer 0');
      const second = new Uint8Array(byteLengthOf(found.dtype, 1));
      const whole = new Uint8Array(byteLengthOf(found.dtype, wanted.length));
      await found.read(0, whole);
      await found.read(1, second);
      const values = found.dtype === 'f32' ? new Float32Array(whole.buffer) : Array.from(new Uint16Array(whole.buffer), bf16ToF32);
      expect([...values]).toEqual(wanted);
      expect(second).toEqual(whole.slice(second.length, 2 * second.length));
    }
  });

  it('reads a stack of tensors as one, from any element on', async () => {
    const source = await sourceOf({
      e1: f32Tensor([4, 5, 6], [1, 3]),
      e0: f32Tensor([1, 2, 3], [1, 3]),
      'old.e2': f32Tensor([7, 8, 9], [1, 3]),
    });
    const stack = { count: 3, sources: (index: number) => [`e${index}`, `old.e${index}`] };
    const found = source.find({ ...spec('experts', [3, 3], 'matrix', []), stack }, 'layer 0');
    for (let first = 0; first < 9; first++) {
      for (let end = first + 1; end <= 9; end++) {
        const bytes = new Uint8Array(4 * (end - first));
        await found.read(first, bytes);
        expect([...new Float32Array(bytes.buffer)]).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9].slice(first, end));
      }
    }
  });

  it.each<[string, Tensors, RegExp]>([
    ['a missing tensor', { e0: f32Tensor([1, 2], [1, 2]) }, /no tensor for experts of layer 0; tried e1/],
    ['another shape', { e0: f32Tensor([1, 2], [1, 2]), e1: f32Tensor([1], [1, 1]) }, /"e1" .* has shape \[1, 1\], .* asks for \[1, 2\]/],
    [
      'two types',
      { e0: f32Tensor([1, 2], [1, 2]), e1: halfTensor('BF16', [0, 0], [1, 2]) },
      /tensor "e1" of layer 0 is stored as bf16, the first of its kind as f32/,
    ],
  ])('refuses a stack with %s', async (_what, tensors, message) => {
    const source = await sourceOf(tensors);
    const stacked = { ...spec('experts', [2, 2], 'matrix', []), stack: { count: 2, sources: (index: number) => [`e${index}`] } };
    expect(() => source.find(stacked, 'layer 0')).toThrow(message);
  });

  it('adds an offset in f32: a bfloat16 of 1 + 1/512 is 1', async () => {
    const source = await sourceOf({ w: halfTensor('BF16', [f32ToBf16(1 / 512)]) });
    const bytes = new Uint8Array(4);
    await source.find({ ...spec('w', [1], 'vector'), offset: 1 }, 'layer 0').read(0, bytes);
    expect(new Float32Array(bytes.buffer)[0]).toBe(1 + 1 / 512);
  });

  it('asks no source for values that the model has computed', async () => {
    const layers = [layer('layer 0', { ...spec('rope', [3], 'vector', []), values: [1, 2.5, 4] })];
    const plan = planWeights({ layers }, await sourceOf({}), EXACT, 'auto');
    const bytes = new Uint8Array(8);
    await plan.weights[0]!.source.read(1, bytes);
    expect([...new Float32Array(bytes.buffer)]).toEqual([2.5, 4]);
    expect(plan).toMatchObject({ bytes: 12, weights: [{ deviceType: 'f32' }] });
  });

  it('refuses computed values of another length', async () => {
    const layers = [layer('layer 0', { ...spec('rope', [3], 'vector', []), values: [1] })];
    const source = await sourceOf({});
    expect(() => planWeights({ layers }, source, EXACT, 'auto')).toThrow(/internal: rope: 1 values for shape \[3\]/);
  });

  it.each<[string, WeightSpec, RegExp]>([
    ['rows of a tensor of other length', { ...spec('a', [1, 3]), rows: { from: 0, of: 3 } }, /has shape \[2, 3\], .* asks for \[3, 3\]/],
    [
      'a missing tensor',
      spec('w', [1], 'vector', ['x.w', 'y.w']),
      /^some: no tensor for w of layer 3; tried x\.w, y\.w\. There are 3 tensors, such as "a", /,
    ],
    [
      'another shape',
      spec('a', [3, 2]),
      /^some\/model\.safetensors: tensor "a" of layer 3 has shape \[2, 3\], the configuration asks for \[3, 2\]/,
    ],
    ['another rank', spec('a', [6]), /has shape \[2, 3\], the configuration asks for \[6\]/],
    [
      'an unusable type',
      spec('d', [1], 'vector'),
      /tensor "d" of layer 3 is stored as F64; weights of F32, F16, BF16 and the block types of GGUF are read/,
    ],
  ])('refuses %s', async (_what, wanted, message) => {
    const source = await sourceOf({
      a: f32Tensor([1, 2, 3, 4, 5, 6], [2, 3]),
      b: f32Tensor([1]),
      d: { dtype: 'F64', shape: [1], data: new Uint8Array(8) },
    });
    const layers = [layer('embed', spec('b', [1], 'vector')), layer('layer 3', wanted)];
    expect(() => planWeights({ layers }, source, EXACT, 'auto')).toThrow(message);
  });

  it('refuses a weight of two shapes', async () => {
    const source = await sourceOf({ a: f32Tensor([1]) });
    const layers = [layer('embed', spec('a', [1])), layer('head', spec('a', [2]))];
    expect(() => planWeights({ layers }, source, EXACT, 'auto')).toThrow(/internal: a has two shapes/);
  });
});
