/** Attention over compressed caches against a naive one in f64 that rounds keys and values by the published formulas. */
import { describe, expect, it } from 'vitest';
import type { BatchRow, Device } from '../../src/tensor/device.ts';
import { f16ToF32, f32ToF16, type KvType } from '../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { type NaiveHeads, naiveAttention } from '../helpers/naive-ops.ts';
import { decode, differences, encode, randomNumbers, roundedTo, Scope } from '../helpers/tensors.ts';

type Compressed = Exclude<KvType, 'f32' | 'f16' | 'bf16'>;

/** Bits, values of a group, code of zero or whether there is a minimum. */
const FORMATS: Readonly<Record<Compressed, { bits: number; size: number; zero: number; minimum: boolean }>> = {
  q8_0: { bits: 8, size: 32, zero: 128, minimum: false },
  q4_0: { bits: 4, size: 32, zero: 8, minimum: false },
  q4_1: { bits: 4, size: 32, zero: 0, minimum: true },
  g4: { bits: 4, size: 64, zero: 0, minimum: true },
};
const PAGES = [3, 1, 4];
const POSITIONS = 150;
const HEADS: readonly NaiveHeads[] = [
  { heads: 2, kvHeads: 2, headDim: 64, scale: 0.125 },
  { heads: 8, kvHeads: 2, headDim: 128, scale: 0.1 },
  { heads: 3, kvHeads: 1, headDim: 64, scale: 0.2, window: 50 },
];

const half = (x: number): number => f16ToF32(f32ToF16(x));

function compressed(type: Compressed, values: Float32Array): Float32Array<ArrayBuffer> {
  const { bits, size, zero, minimum } = FORMATS[type];
  const out = new Float32Array(values.length);
  for (let at = 0; at < values.length; at += size) {
    const group = values.subarray(at, at + size);
    const [least, most] = [Math.min(...group), Math.max(...group)];
    const largest = group.reduce((a, b) => (Math.abs(b) > Math.abs(a) ? b : a));
    const scale = Math.fround(minimum ? Math.fround(most - least) / 15 : bits === 8 ? Math.abs(largest) / 127 : largest / -8);
    const inverse = scale === 0 ? 0 : Math.fround(1 / scale);
    group.forEach((x, i) => {
      const moved = minimum ? Math.fround(x - least) : x;
      const code = Math.floor(Math.fround(Math.fround(Math.fround(moved * inverse) + zero) + 0.5));
      const clamped = scale === 0 ? zero : Math.min(bits === 8 ? 255 : 15, Math.max(0, code));
      out[at + i] = half(scale) * (clamped - zero) + (minimum ? half(least) : 0);
    });
  }
  return out;
}

const rounded = (type: KvType, values: Float32Array): Float32Array =>
  type in FORMATS ? compressed(type as Compressed, values) : roundedTo(type, values);

/** Outputs of one row whose tokens come in pieces, next to a row of one token. */
async function attend(
  device: Device,
  type: KvType,
  heads: NaiveHeads,
  inputs: readonly Float32Array[],
  pieces: number,
): Promise<Float32Array> {
  using scope = new Scope();
  const columns = heads.kvHeads * heads.headDim;
  const make = (name: string) => scope.add(device.allocate(name, type, [6 * 64, columns]));
  const cache = { keys: make('keys'), values: make('values') };
  // What was never written may be anything.
  for (const tensor of [cache.keys, cache.values]) await device.write(tensor, 0, new Uint8Array(tensor.byteLength).fill(0xff));
  const results: Float32Array[] = [];
  for (let start = 0; start < POSITIONS; start += pieces) {
    const count = Math.min(pieces, POSITIONS - start);
    const rows: BatchRow[] = [
      { tokens: new Int32Array(1), start: 0, pages: [5] },
      { tokens: new Int32Array(count), start, pages: PAGES },
    ];
    const batch = scope.add(device.createBatch(rows, { windows: [heads.window ?? Infinity] }));
    await batch.write(rows);
    const widths = [heads.heads * heads.headDim, columns, columns];
    const tensors = await Promise.all(
      widths.map(async (width, i) => {
        const tensor = scope.add(device.allocate('x', 'f32', [count + 1, width]));
        await device.write(tensor, width * 4, encode('f32', inputs[i]!.slice(start * width, (start + count) * width)));
        await device.write(tensor, 0, encode('f32', randomNumbers(9, width)));
        return tensor;
      }),
    );
    const out = scope.add(device.allocate('y', 'f32', [count + 1, widths[0]!]));
    const graph = new GraphBuilder('attention', count + 1);
    const [q, k, v] = tensors.map((tensor) => graph.load(tensor));
    graph.store(graph.attention(q!, k!, v!, cache, heads), out);
    await device.run(scope.add(device.compile(graph.finish(), batch)));
    const bytes = new Uint8Array(out.byteLength);
    await device.read(out, 0, bytes);
    results.push(decode('f32', bytes).slice(widths[0]));
  }
  return Float32Array.from(results.flatMap((part) => Array.from(part)));
}

function naive(type: KvType, heads: NaiveHeads, [q, k, v]: readonly Float32Array[]): number[] {
  const [width, columns] = [heads.heads * heads.headDim, heads.kvHeads * heads.headDim];
  const rowsOf = (x: Float32Array): Float32Array[] =>
    Array.from({ length: POSITIONS }, (_, p) => x.subarray(p * columns, (p + 1) * columns));
  const [keys, values] = [rowsOf(rounded(type, k!)), rowsOf(rounded(type, v!))];
  return Array.from({ length: POSITIONS }, (_, p) =>
    naiveAttention(q!.subarray(p * width, (p + 1) * width), keys.slice(0, p + 1), values.slice(0, p + 1), heads),
  ).flatMap((row) => Array.from(row));
}

describe.each(availableKernels())('kernels %s', (_isa, kernels) => {
  it.each(['bf16', 'q8_0', 'q4_0', 'q4_1', 'g4'] as const)('a cache of %s equals the naive one, in pieces of any size', async (type) => {
    await using device = openNativeDevice(kernels, 2);
    for (const heads of HEADS) {
      const inputs = [heads.heads, heads.kvHeads, heads.kvHeads].map((n, i) => randomNumbers(i + 1, POSITIONS * n * heads.headDim));
      const whole = await attend(device, type, heads, inputs, POSITIONS);
      expect(differences(whole, naive(type, heads, inputs), 2e-5, `${type}, ${heads.kvHeads} kv heads`)).toEqual([]);
      for (const pieces of [7, 64]) expect(await attend(device, type, heads, inputs, pieces)).toEqual(whole);
    }
  });

  it.each(['q8_0', 'q4_0', 'q4_1', 'g4'] as const)(
    'a cache of %s takes zeros, large and tiny values, and keeps what is not finite in its row',
    async (type) => {
      await using device = openNativeDevice(kernels, 1);
      const heads = HEADS[0]!;
      const columns = heads.kvHeads * heads.headDim;
      const [q, k, v] = [1, 2, 3].map((seed) => randomNumbers(seed, POSITIONS * columns)) as [Float32Array, Float32Array, Float32Array];
      k.fill(0, 0, 3 * columns);
      v.fill(0, columns, 2 * columns);
      for (let i = 0; i < columns; i++) [k[5 * columns + i], v[6 * columns + i]] = [k[5 * columns + i]! * 1e-3, v[6 * columns + i]! * 1e3];
      const got = await attend(device, type, heads, [q, k, v], 50);
      expect(differences(got, naive(type, heads, [q, k, v]), 1e-4, type)).toEqual([]);
      k[20 * columns] = NaN;
      const spoilt = await attend(device, type, heads, [q, k, v], 50);
      expect(spoilt.subarray(0, 20 * columns)).toEqual(got.subarray(0, 20 * columns));
      expect(spoilt.subarray(20 * columns, 20 * columns + heads.headDim).every(Number.isNaN)).toBe(true);
    },
  );
});
