import { describe, expect, it } from 'vitest';
import type { WeightSpec } from '../../../src/models/model.ts';
import { fallbackNotice, storageTypeOf } from '../../../src/weights/storage-type.ts';

const matrix = (name: string, columns: number): Pick<WeightSpec, 'name' | 'role' | 'shape'> => ({
  name,
  role: 'matrix',
  shape: [32, columns],
});
const VECTOR = { name: 'bias', role: 'vector', shape: [70] } as const;

describe('types of weights', () => {
  it.each([
    ['q8', { 256: 'q8_0', 64: 'q8_0', 70: 'f16' }],
    ['q6', { 256: 'q6_k', 64: 'q8_0', 70: 'f16' }],
    ['q5', { 256: 'q5_k', 64: 'q5_0', 70: 'f16' }],
    ['q4', { 256: 'q4_k', 64: 'q4_0', 70: 'f16' }],
  ] as const)('%s fits rows of any length', (wanted, types) => {
    for (const [columns, type] of Object.entries(types)) expect(storageTypeOf(matrix('w', Number(columns)), 'f32', wanted)).toBe(type);
    expect(storageTypeOf(VECTOR, 'f16', wanted)).toBe('f32');
  });

  it.each([
    ['auto', [matrix('a', 70)], undefined],
    ['f16', [matrix('a', 70), VECTOR], undefined],
    ['q4', [matrix('a', 256), VECTOR], undefined],
    // The tied head is the embedding again.
    [
      'q4',
      [matrix('a', 64), matrix('b', 256), matrix('c', 96), matrix('a', 64)],
      'rows of 64, 96 are no whole blocks of q4_k (256), so 2 weights are q4_0',
    ],
    [
      'q5',
      [matrix('a', 64), matrix('b', 70)],
      'rows of 64 are no whole blocks of q5_k (256), so 1 weight is q5_0; rows of 70 are no whole blocks of q5_k (256), so 1 weight is f16',
    ],
    ['q8', [matrix('a', 70)], 'rows of 70 are no whole blocks of q8_0 (32), so 1 weight is f16'],
  ] as const)('%s names the types of weights that it does not fit', (wanted, specs, notice) => {
    expect(fallbackNotice(specs, wanted)).toBe(notice && `--dtype ${wanted}: ${notice}`);
  });
});
