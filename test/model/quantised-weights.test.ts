import { describe, expect, it } from 'vitest';
import { widen } from '../../src/quant/widen.ts';
import type { Device, Weight, WeightSegment } from '../../src/tensor/device.ts';
import { blockElements, byteLengthOf, QUANT_BLOCKS, type QuantType } from '../../src/tensor/dtype.ts';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Value } from '../../src/tensor/op-graph.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { readFixtureJson } from '../helpers/golden.ts';
import { naiveMoe } from '../helpers/naive-ops.ts';
import { randomNumbers, Scope } from '../helpers/tensors.ts';

const TYPES = Object.keys(QUANT_BLOCKS) as QuantType[];
const golden = readFixtureJson('quant/blocks.json') as Readonly<Record<string, { readonly blocks: string; readonly values: string }>>;
/** Types that the package behind the goldens does not know. */
const WITHOUT_GOLDEN: readonly QuantType[] = TYPES.filter((type) => !Object.hasOwn(golden, type));

/** Share of the product of the norms: activations have 8 bits, with one scale for 32 or 256 of them. */
const LINEAR_TOLERANCE = 2e-3;
/** Of the norm, after three such products. */
const MOE_TOLERANCE = 5e-2;
const COLUMNS = 512;

const bytesOf = (text: string): Uint8Array<ArrayBuffer> => new Uint8Array(Buffer.from(text, 'base64'));

function widened(type: QuantType, blocks: Uint8Array<ArrayBuffer>): Float32Array {
  const values = new Float32Array((blocks.length / QUANT_BLOCKS[type][1]) * blockElements(type));
  widen(type, blocks, values);
  return values;
}

/** The golden blocks again and again, turned by one block from row to row. */
function rowsOf(type: QuantType, rows: number): Uint8Array<ArrayBuffer> {
  const [, blockBytes] = QUANT_BLOCKS[type];
  const blocks = bytesOf(golden[type]!.blocks);
  const bytes = new Uint8Array(byteLengthOf(type, rows * COLUMNS));
  const perRow = byteLengthOf(type, COLUMNS) / blockBytes;
  const count = blocks.length / blockBytes;
  for (let block = 0; block < bytes.length / blockBytes; block++) {
    const from = ((block + Math.floor(block / perRow)) % count) * blockBytes;
    bytes.set(blocks.subarray(from, from + blockBytes), block * blockBytes);
  }
  return bytes;
}

interface Uploaded {
  readonly weight: Weight;
  readonly values: Float32Array;
}

interface UploadOptions {
  readonly columns?: number;
  /** Rows that segments begin with, beside the first one. */
  readonly cuts?: readonly number[];
}

async function upload(device: Device, scope: Scope, type: QuantType, rows: number, options: UploadOptions = {}): Promise<Uploaded> {
  const { columns = COLUMNS, cuts = [] } = options;
  const bytes = rowsOf(type, (rows * columns) / COLUMNS);
  const segments: WeightSegment[] = [];
  for (const [i, from] of [0, ...cuts].entries()) {
    const to = cuts[i] ?? rows;
    const tensor = scope.add(device.allocate('w', type, [to - from, columns]));
    await device.write(tensor, 0, bytes.subarray(byteLengthOf(type, from * columns), byteLengthOf(type, to * columns)));
    await device.pack?.(tensor, 1);
    segments.push({ from, to, layout: 'gguf', home: device.tier, tensor });
  }
  return { weight: { name: 'w', shape: [rows, columns], segments }, values: widened(type, bytes) };
}

async function compute(
  device: Device,
  scope: Scope,
  rows: number,
  build: (graph: GraphBuilder, x: Value) => Value,
  x: Float32Array,
): Promise<Float32Array> {
  const columns = x.length / rows;
  const input = scope.add(device.allocate('x', 'f32', [rows, columns]));
  await device.write(input, 0, new Uint8Array(x.buffer));
  const graph = new GraphBuilder('test', rows);
  const out = build(graph, graph.load(input));
  const output = scope.add(device.allocate('y', 'f32', [out.rows, out.columns]));
  graph.store(out, output);
  await device.run(scope.add(device.compile(graph.finish())));
  const result = new Float32Array(out.rows * out.columns);
  await device.read(output, 0, new Uint8Array(result.buffer));
  return result;
}

const norm = (values: Float32Array): number => Math.sqrt(values.reduce((sum, value) => sum + value * value, 0));

it('knows goldens for all types but two', () => {
  expect(WITHOUT_GOLDEN.length).toBeLessThanOrEqual(2);
});

/** Every type on ggml, and on our kernels for every instruction set that runs here. */
const DEVICES: readonly (readonly [string, (threads: number) => Promise<Device>])[] = [
  ['ggml', (threads) => openGgmlDevice({ backend: 'cpu', threads })],
  ...availableKernels().map(([isa, kernels]) => [isa, async (threads: number) => openNativeDevice(kernels, threads)] as const),
];
const CASES = DEVICES.flatMap(([name, open]) =>
  TYPES.filter((type) => !WITHOUT_GOLDEN.includes(type)).map((type) => [type, name, open] as const),
);

describe.each(TYPES.filter((type) => !WITHOUT_GOLDEN.includes(type)))('%s', (type) => {
  it('is widened exactly', () => {
    const { blocks, values } = golden[type]!;
    const wanted = new Float32Array(bytesOf(values).buffer);
    const got = widened(type, bytesOf(blocks));
    expect(wanted.length).toBeGreaterThanOrEqual(128);
    // One product of f32 more or less may round differently.
    for (const [i, value] of wanted.entries()) expect(Math.abs(got[i]! - value)).toBeLessThanOrEqual(Math.abs(value) * 2 ** -22);
  });
});

describe.each(CASES)('%s on %s', (type, name, open) => {
  const inOnePiece = name === 'ggml';
  it.each([1, 3, 17])('multiplies %i rows', async (rows) => {
    await using device = await open(2);
    using scope = new Scope();
    const { weight, values } = await upload(device, scope, type, 35);
    const x = randomNumbers(rows, rows * COLUMNS);
    const y = await compute(device, scope, rows, (graph, input) => graph.linear(input, weight), x);
    for (let row = 0; row < rows; row++) {
      const input = x.subarray(row * COLUMNS, (row + 1) * COLUMNS);
      for (let out = 0; out < 35; out++) {
        const w = values.subarray(out * COLUMNS, (out + 1) * COLUMNS);
        const exact = w.reduce((sum, value, i) => sum + value * input[i]!, 0);
        expect(Math.abs(y[row * 35 + out]! - exact)).toBeLessThan(LINEAR_TOLERANCE * norm(w) * norm(input));
      }
    }
  });

  it('mixes experts', async () => {
    await using device = await open(2);
    using scope = new Scope();
    const [rows, experts, inner] = [3, 2, 256];
    const stack = (outputs: number, columns: number) => upload(device, scope, type, experts * outputs, { columns });
    const [gate, up, down] = [await stack(inner, COLUMNS), await stack(inner, COLUMNS), await stack(COLUMNS, inner)];
    const x = randomNumbers(5, rows * COLUMNS);
    const logits = Float32Array.from({ length: rows * experts }, (_, i) => i % 4);
    const table = scope.add(device.allocate('logits', 'f32', [rows, experts]));
    await device.write(table, 0, new Uint8Array(logits.buffer));
    // relu, because it keeps proportions: random blocks have any scale.
    const options = { used: 2, normalise: true, activation: 'relu' } as const;
    const build = (graph: GraphBuilder, input: Value): Value =>
      graph.moe(input, graph.load(table), { ...options, gate: gate.weight, up: up.weight, down: down.weight });
    const got = await compute(device, scope, rows, build, x);
    const shape = { rows, columns: COLUMNS, inner, experts, ...options, activate: (value: number) => Math.max(0, value) };
    const wanted = Float32Array.from(naiveMoe(x, logits, { gate: gate.values, up: up.values, down: down.values }, shape));
    expect(norm(got.map((value, i) => value - wanted[i]!))).toBeLessThan(MOE_TOLERANCE * norm(wanted));
  });

  it.skipIf(inOnePiece)('mixes experts that lie in several segments as those of one, bit for bit', async () => {
    await using device = await open(2);
    using scope = new Scope();
    const [rows, experts, inner] = [3, 3, 256];
    const x = randomNumbers(5, rows * COLUMNS);
    const mix = async (cut: readonly number[], cutDown: readonly number[]): Promise<Float32Array> => {
      const stack = (outputs: number, columns: number, cuts: readonly number[]) =>
        upload(device, scope, type, experts * outputs, { columns, cuts: cuts.map((expert) => expert * outputs) });
      const [gate, up] = [await stack(inner, COLUMNS, cut), await stack(inner, COLUMNS, [])];
      const options = { gate: gate.weight, up: up.weight, down: (await stack(COLUMNS, inner, cutDown)).weight, used: 2, normalise: true };
      const table = scope.add(device.allocate('logits', 'f32', [rows, experts]));
      await device.write(table, 0, new Uint8Array(Float32Array.from({ length: rows * experts }, (_, i) => i % 4).buffer));
      return compute(device, scope, rows, (graph, input) => graph.moe(input, graph.load(table), { ...options, activation: 'relu' }), x);
    };
    expect(await mix([1], [1, 2])).toEqual(await mix([], []));
  });

  it.each(inOnePiece ? [{ cuts: [] }] : [{ cuts: [] }, { cuts: [32, 64] }])(
    'looks rows up exactly, in a table cut before rows $cuts',
    async ({ cuts }) => {
      await using device = await open(1);
      using scope = new Scope();
      const { weight, values } = await upload(device, scope, type, 73, { cuts });
      const tokens = Int32Array.from([8, 0, 31, 32, 72, 64, 63]);
      const rows = [{ tokens, start: 0, pages: [1] }];
      const batch = scope.add(device.createBatch(rows));
      await batch.write(rows);
      const output = scope.add(device.allocate('y', 'f32', [tokens.length, COLUMNS]));
      const graph = new GraphBuilder('embed', tokens.length);
      graph.store(graph.embed(weight, 'token'), output);
      await device.run(scope.add(device.compile(graph.finish(), batch)));
      const got = new Float32Array(tokens.length * COLUMNS);
      await device.read(output, 0, new Uint8Array(got.buffer));
      expect(got).toEqual(Float32Array.from(Array.from(tokens).flatMap((row) => [...values.subarray(row * COLUMNS, (row + 1) * COLUMNS)])));
    },
  );
});
