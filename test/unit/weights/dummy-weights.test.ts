import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../../../src/models/model.ts';
import { bf16ToF32, f16ToF32 } from '../../../src/tensor/dtype.ts';
import { dummyWeights } from '../../../src/weights/dummy-weights.ts';

const matrix = (name: string, shape: number[]): WeightSpec => ({ name, shape, role: 'matrix', sources: [name] });
const vector = (name: string, length: number): WeightSpec => ({ name, shape: [length], role: 'vector', sources: [name] });

async function valuesOf(spec: WeightSpec, first: number, count: number) {
  const target = new Uint8Array(count * 4);
  await dummyWeights({ dtype: 'f32' }).find(spec, 'layer 0').read(first, target);
  return new Float32Array(target.buffer);
}

const bytesOf = (values: Float32Array) => new Uint8Array(values.buffer, values.byteOffset, values.byteLength);

function statistics(values: Float32Array) {
  const mean = values.reduce((sum, x) => sum + x, 0) / values.length;
  const deviation = Math.sqrt(values.reduce((sum, x) => sum + (x - mean) ** 2, 0) / values.length);
  return { mean, deviation };
}

describe('dummyWeights', () => {
  it.each<[WeightSpec, number, number]>([
    [matrix('layer0.fc1.weight', [1000, 1000]), 0, 0.02],
    [{ ...matrix('tokens.weight', [1000, 1000]), role: 'table' }, 0, 0.02],
    [vector('layer0.norm.weight', 50_000), 1, 0.002],
    [vector('layer0.fc1.bias', 50_000), 0, 0.002],
  ])('spreads %o around %d by %d', async (spec, mean, deviation) => {
    const found = statistics(
      await valuesOf(
        spec,
        0,
        spec.shape.reduce((a, b) => a * b),
      ),
    );
    expect(Math.abs(found.mean - mean)).toBeLessThan(deviation / 50);
    expect(found.deviation / deviation).toBeCloseTo(1, 1);
  });

  it('depends on name and position only, not on the pieces read', async () => {
    const spec = matrix('w', [3000, 1024]);
    const whole = await valuesOf(spec, 0, 3000 * 1024);
    for (const [first, count] of [
      [0, 7],
      [1_048_570, 10],
      [2_000_001, 1_071_999],
    ] as const)
      expect(Buffer.compare(bytesOf(await valuesOf(spec, first, count)), bytesOf(whole.subarray(first, first + count)))).toBe(0);
  });

  it('differs between names and between rows of a power of two', async () => {
    const rows = new Set<string>();
    for (const name of ['a', 'b']) {
      const values = await valuesOf(matrix(name, [4096, 1024]), 0, 4096 * 1024);
      for (let row = 0; row < 4096; row++) rows.add(values.subarray(row * 1024, row * 1024 + 8).join());
    }
    expect(rows.size).toBe(2 * 4096);
  });

  it('never changes: benchmarks of different days compare', async () => {
    expect([...(await valuesOf(matrix('layer0.fc1.weight', [4, 4]), 0, 3))]).toMatchInlineSnapshot(`
      [
        0.03642161935567856,
        -0.009307843632996082,
        0.006289120763540268,
      ]
    `);
  });

  it.each([
    ['f16', f16ToF32],
    ['bf16', bf16ToF32],
  ] as const)('is the same in %s up to rounding', async (dtype, widen) => {
    const spec = matrix('w', [100, 100]);
    const target = new Uint16Array(10_000);
    const source = dummyWeights({ dtype }).find(spec, 'layer 0');
    await source.read(0, new Uint8Array(target.buffer));
    const exact = await valuesOf(spec, 0, 10_000);
    expect(source.dtype).toBe(dtype);
    expect(target.every((bits, i) => Math.abs(widen(bits) - exact[i]!) <= Math.abs(exact[i]!) / 256 + 1e-7)).toBe(true);
  });

  it('takes a type for each weight', () => {
    const source = dummyWeights({ dtype: ({ role }) => (role === 'vector' ? 'f32' : 'bf16') });
    expect(source.find(matrix('w', [4, 4]), 'layer 0').dtype).toBe('bf16');
    expect(source.find(vector('b.weight', 4), 'layer 0').dtype).toBe('f32');
  });
});
