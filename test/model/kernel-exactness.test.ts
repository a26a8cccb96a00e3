/** Decision 8 of the design: no bit of a result depends on who else is computed, in what pieces, or by how many threads. */
import { describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../src/tensor/device.ts';
import { type FloatType, isQuantType, KV_TYPES, type KvType, type QuantType, type WeightType } from '../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { readFixtureJson } from '../helpers/golden.ts';
import { areSanitized, availableKernels } from '../helpers/kernels.ts';
import { decode, encode, randomNumbers, Scope } from '../helpers/tensors.ts';

const TYPES: readonly WeightType[] = [
  'f32',
  'f16',
  'bf16',
  'q4_0',
  'q4_1',
  'q5_0',
  'q5_1',
  'q8_0',
  'q4_k',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'q3_k',
];
const golden = readFixtureJson('quant/blocks.json') as Readonly<Record<string, { readonly blocks: string }>>;
/** Whole panels and a rest. */
const OUTPUTS = 70;
/** More than the kernels take of K at a time for few rows; many rows take all of it. */
const COLUMNS = 768;
/** Around the edges of all tiles: of rows in registers, and of rows at a time. */
const ALL_ROWS = [1, 2, 3, 4, 5, 6, 7, 11, 12, 13, 15, 16, 17, 23, 24, 63, 64, 65, 128, 505, 576, 577];
/** Edges of tiles in registers, and one row more than is computed at a time: memory has no others. */
const ROWS = areSanitized ? [1, 5, 6, 7, 13, 24, 577] : ALL_ROWS;
const THREADS = areSanitized ? [3] : [1, 2, 3];
const MOST_ROWS = 577;

function weightBytes(type: WeightType): Uint8Array {
  if (!isQuantType(type)) return encode(type satisfies FloatType, randomNumbers(7, OUTPUTS * COLUMNS));
  const blocks = new Uint8Array(Buffer.from(golden[type satisfies QuantType]!.blocks, 'base64'));
  return blocks;
}

async function multiply(device: Device, type: WeightType, x: Float32Array): Promise<Float32Array> {
  using scope = new Scope();
  const rows = x.length / COLUMNS;
  const tensor = scope.add(device.allocate('w', type, [OUTPUTS, COLUMNS]));
  const source = weightBytes(type);
  const bytes = Uint8Array.from({ length: tensor.byteLength }, (_, i) => source[i % source.length]!);
  await device.write(tensor, 0, bytes);
  await device.pack?.(tensor, 1);
  const weight = { name: 'w', shape: tensor.shape, segments: [{ from: 0, to: OUTPUTS, layout: 'gguf', home: 'cpu', tensor }] } as const;
  const [input, output] = [COLUMNS, OUTPUTS].map((n) => scope.add(device.allocate('x', 'f32', [rows, n]))) as [Tensor, Tensor];
  await device.write(input, 0, Uint8Array.from(new Uint8Array(x.buffer, x.byteOffset, x.byteLength)));
  const graph = new GraphBuilder('product', rows);
  graph.store(graph.linear(graph.load(input), weight), output);
  await device.run(scope.add(device.compile(graph.finish())));
  const result = new Uint8Array(output.byteLength);
  await device.read(output, 0, result);
  return decode('f32', result);
}

/** 64 is the least that all groups divide. */
const HEADS = { heads: 3, kvHeads: 1, headDim: 64, scale: 0.2 };
const POSITIONS = 1100;

interface Attended {
  readonly type: KvType;
  readonly window?: number;
  /** For tokens from PROMPT on. */
  readonly attnSparsity?: number;
}

/** Not at the edge of a page or of a piece. */
const PROMPT = 100;

/** Results of one row whose tokens come in pieces of `chunk`, next to a mate that decodes. */
async function attendInPieces(
  device: Device,
  { type, window, attnSparsity = 1 }: Attended,
  chunk: number,
  withMate: boolean,
): Promise<Float32Array> {
  using scope = new Scope();
  const [qColumns, columns] = [HEADS.heads * HEADS.headDim, HEADS.kvHeads * HEADS.headDim];
  const cache = {
    keys: scope.add(device.allocate('k', type, [64 * 64, columns])),
    values: scope.add(device.allocate('v', type, [64 * 64, columns])),
  };
  for (const tensor of [cache.keys, cache.values]) await device.write(tensor, 0, new Uint8Array(tensor.byteLength));
  const inputs = [qColumns, columns, columns].map((n, i) => randomNumbers(i + 1, POSITIONS * n));
  const pages = Array.from({ length: 20 }, (_, i) => 40 - 2 * i);
  const results: Float32Array[] = [];
  for (let start = 0; start < POSITIONS; start += chunk) {
    const count = Math.min(chunk, POSITIONS - start);
    const mate = withMate ? [{ tokens: new Int32Array(1), start: 0, pages: [1], prompt: 0 }] : [];
    const rows = [...mate, { tokens: new Int32Array(count), start, pages, prompt: PROMPT }];
    const total = count + mate.length;
    const batch = scope.add(device.createBatch(rows, { windows: [window ?? Infinity] }));
    await batch.write(rows);
    const tensors = [qColumns, columns, columns, qColumns].map((n) => scope.add(device.allocate('x', 'f32', [total, n])));
    for (const [i, values] of inputs.entries()) {
      const n = i === 0 ? qColumns : columns;
      const part = new Float32Array(total * n).fill(0.5);
      part.set(values.subarray(start * n, (start + count) * n), mate.length * n);
      await device.write(tensors[i]!, 0, new Uint8Array(part.buffer));
    }
    const graph = new GraphBuilder('attention', total, { attnSparsity });
    const [q, k, v] = tensors.slice(0, 3).map((tensor) => graph.load(tensor));
    graph.store(graph.attention(q!, k!, v!, cache, { ...HEADS, ...(window !== undefined && { window }) }), tensors[3]!);
    await device.run(scope.add(device.compile(graph.finish(), batch)));
    const bytes = new Uint8Array(total * qColumns * 4);
    await device.read(tensors[3]!, 0, bytes);
    results.push(decode('f32', bytes).subarray(mate.length * qColumns));
  }
  return Float32Array.from(results.flatMap((part) => [...part]));
}

const same = (a: Float32Array, b: Float32Array): boolean =>
  Buffer.compare(new Uint8Array(a.buffer, a.byteOffset, a.byteLength), new Uint8Array(b.buffer, b.byteOffset, b.byteLength)) === 0;

describe.each(availableKernels())('kernels %s', (_isa, kernels) => {
  it.each(TYPES)('%s: a row has the same bytes among any number of others, in any place, on any number of threads', async (type) => {
    const x = randomNumbers(3, MOST_ROWS * COLUMNS);
    const alone = new Map<number, Float32Array>();
    await using one = openNativeDevice(kernels, 1);
    for (const row of [0, 1, 11, 62, 300, MOST_ROWS - 1])
      alone.set(row, await multiply(one, type, x.slice(row * COLUMNS, (row + 1) * COLUMNS)));
    for (const threads of THREADS) {
      await using device = openNativeDevice(kernels, threads);
      for (const rows of ROWS) {
        const y = await multiply(device, type, x.slice(0, rows * COLUMNS));
        const others = [...alone].filter(([row, wanted]) => row < rows && !same(y.slice(row * OUTPUTS, (row + 1) * OUTPUTS), wanted));
        expect(others, `${rows} rows, ${threads} threads`).toEqual([]);
      }
      const reversed = Float32Array.from(
        { length: x.length },
        (_, i) => x[(MOST_ROWS - 1 - Math.floor(i / COLUMNS)) * COLUMNS + (i % COLUMNS)]!,
      );
      const y = await multiply(device, type, reversed);
      for (const [row, wanted] of alone)
        expect(same(y.slice((MOST_ROWS - 1 - row) * OUTPUTS, (MOST_ROWS - row) * OUTPUTS), wanted)).toBe(true);
    }
  });

  it.each(TYPES)('%s: what is no finite number stays in its row', async (type) => {
    await using device = openNativeDevice(kernels, 2);
    const x = randomNumbers(5, 26 * COLUMNS);
    const clean = await multiply(device, type, x);
    x[3 * COLUMNS + 100] = NaN;
    x[24 * COLUMNS + 700] = Infinity;
    const y = await multiply(device, type, x);
    const rowOf = (all: Float32Array, row: number): Float32Array => all.slice(row * OUTPUTS, (row + 1) * OUTPUTS);
    expect(rowOf(y, 3).every(Number.isNaN)).toBe(true);
    expect(rowOf(y, 24).some(Number.isFinite)).toBe(false);
    const changed = Array.from({ length: 26 }, (_, row) => row).filter((row) => !same(rowOf(y, row), rowOf(clean, row)));
    expect(changed).toEqual([3, 24]);
  });

  it.each<Attended>([
    ...KV_TYPES.map((type) => ({ type, attnSparsity: 1 })),
    { type: 'f32', window: 100, attnSparsity: 1 },
    ...(['f32', 'f16', 'q8_0', 'g4'] as const).map((type) => ({ type, attnSparsity: 0.1 })),
    { type: 'f16', window: 100, attnSparsity: 0.5 },
  ])('attention with a cache of $type, window $window and sparsity $attnSparsity is the same in pieces of any size', async (options) => {
    await using one = openNativeDevice(kernels, 1);
    const whole = await attendInPieces(one, options, POSITIONS, false);
    for (const [chunk, threads] of [
      [1, 2],
      [63, 3],
      [64, 1],
      [65, 2],
      [512, 2],
    ] as const) {
      await using device = openNativeDevice(kernels, threads);
      expect(same(await attendInPieces(device, options, chunk, chunk % 2 === 1), whole), `pieces of ${chunk}`).toBe(true);
    }
  });
});
