import { describe, expect, it } from 'vitest';
import { fromBytes } from '../../../src/formats/byte-source.ts';
import { readSafetensors } from '../../../src/formats/safetensors.ts';
import type { LayerSpec, WeightSpec } from '../../../src/models/model.ts';
import type { WeightType } from '../../../src/tensor/dtype.ts';
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

  it.each<[string, WeightSpec, RegExp]>([
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
    ['an unusable type', spec('d', [1], 'vector'), /tensor "d" of layer 3 is stored as F64; weights of F32, F16, BF16 are read/],
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
