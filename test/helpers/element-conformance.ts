import { expect, it } from 'vitest';
import type { Weight } from '../../src/tensor/device.ts';
import type { GraphBuilder } from '../../src/tensor/graph.ts';
import type { NormKind, RopeOptions, Value } from '../../src/tensor/op-graph.ts';
import { type Bench, evaluate, lonelyRow } from './bench.ts';
import { naiveNorm, naiveRmsNorm, naiveRope } from './naive-ops.ts';
import { differences, randomNumbers, upload, uploadWeight } from './tensors.ts';

interface NormCase {
  readonly kind: NormKind;
  readonly rows: number;
  readonly columns: number;
  readonly groups?: number;
  readonly parameters: boolean;
}

export function describeByLength(bench: Bench): void {
  const { device, scope } = bench;
  it('chooses rows by the length of their sequence', async () => {
    const columns = 5;
    const rows = [
      lonelyRow([1, 2], 0, [1]), // 2 positions
      { ...lonelyRow([1, 2, 3], 0, [2]), total: 9 }, // the rest comes in a later chunk
      lonelyRow([1], 7, [3]), // 8 positions
      lonelyRow([1], 8, [4]),
    ];
    const chosen = ['short', 'short', 'long', 'long', 'long', 'short', 'long'];
    const [short, long] = [randomNumbers(1, 7 * columns), randomNumbers(2, 7 * columns)];
    const [a, b] = [
      await upload(device(), scope, { shape: [7, columns], values: short }),
      await upload(device(), scope, { shape: [7, columns], values: long }),
    ];
    const build = (graph: GraphBuilder): Value => graph.byLength(graph.load(a), graph.load(b), 8);
    const got = await evaluate(bench, 7, build, rows, { lengthLimit: 8 });
    const wanted = got.map((_, i) => (chosen[Math.floor(i / columns)] === 'long' ? long : short)[i]!);
    expect(differences(got, wanted, 0)).toEqual([]);
  });
}

export function describeNorms(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  it.each<NormCase>([
    { kind: 'layer', rows: 1, columns: 3, parameters: true },
    { kind: 'layer', rows: 33, columns: 31, parameters: true },
    { kind: 'layer', rows: 3, columns: 65, parameters: false },
    { kind: 'layer', rows: 65, columns: 130, parameters: false },
    { kind: 'layer', rows: 5, columns: 93, groups: 3, parameters: true },
    { kind: 'rms', rows: 1, columns: 3, parameters: true },
    { kind: 'rms', rows: 33, columns: 31, parameters: true },
    { kind: 'rms', rows: 65, columns: 130, parameters: false },
    { kind: 'rms', rows: 1, columns: 64, groups: 4, parameters: true },
    { kind: 'rms', rows: 33, columns: 99, groups: 3, parameters: true },
    { kind: 'rms', rows: 3, columns: 10, groups: 2, parameters: false },
  ])('normalises: %j', async ({ kind, rows, columns, groups = 1, parameters }) => {
    // A mean that is not zero, and a last row of equal small numbers, where epsilon counts.
    const xs = randomNumbers(7, rows * columns).map((v, i) => (rows > 1 && i >= (rows - 1) * columns ? 0.005 : 3 * v + 2));
    const size = columns / groups;
    const [ws, bs] = [randomNumbers(8, size), randomNumbers(9, size)];
    const x = await upload(device(), scope, { shape: [rows, columns], values: xs });
    const vector = async (values: Float32Array, wanted: boolean): Promise<Weight | undefined> =>
      wanted ? await uploadWeight(device(), scope, { shape: [size], values }) : undefined;
    const [weight, bias] = [await vector(ws, parameters), await vector(bs, parameters && kind === 'layer')];
    const got = await evaluate(bench, rows, (graph) => graph.norm(graph.load(x), { kind, groups, weight, bias, epsilon: 1e-5 }));
    const normed = kind === 'layer' ? naiveNorm(xs, size, 1e-5) : naiveRmsNorm(xs, size, 1e-5);
    const wanted = normed.map((y, i) => y * (weight ? ws[i % size]! : 1) + (bias ? bs[i % size]! : 0));
    expect(differences(got, wanted, tolerance.exact)).toEqual([]);
  });
}

interface ElementCase {
  readonly name: string;
  readonly build: (graph: GraphBuilder, a: Value, b: Value) => Value;
  readonly wanted: (a: number, b: number) => number;
}

export function describeElements(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  const cases: readonly ElementCase[] = [
    { name: 'adds', build: (graph, a, b) => graph.add(a, b), wanted: (a, b) => a + b },
    { name: 'multiplies', build: (graph, a, b) => graph.multiply(a, b), wanted: (a, b) => a * b },
    { name: 'scales', build: (graph, a) => graph.scale(a, -2.25), wanted: (a) => -2.25 * a },
    { name: 'caps softly', build: (graph, a) => graph.softcap(a, 2.5), wanted: (a) => 2.5 * Math.tanh(a / 2.5) },
  ];
  it.each(cases.flatMap((c) => [1, 31, 65].map((columns) => ({ ...c, columns }))))('$name $columns columns', async (c) => {
    const [as, bs] = [randomNumbers(10, 3 * c.columns).map((v) => 5 * v), randomNumbers(11, 3 * c.columns)];
    const a = await upload(device(), scope, { shape: [3, c.columns], values: as });
    const b = await upload(device(), scope, { shape: [3, c.columns], values: bs });
    const got = await evaluate(bench, 3, (graph) => c.build(graph, graph.load(a), graph.load(b)));
    expect(
      differences(
        got,
        [...as].map((v, i) => c.wanted(v, bs[i]!)),
        tolerance.exact,
      ),
    ).toEqual([]);
  });

  it.each([1, 31, 65])('multiplies %i columns with one', async (columns) => {
    const [as, bs] = [randomNumbers(12, 3 * columns), randomNumbers(13, 3)];
    const a = await upload(device(), scope, { shape: [3, columns], values: as });
    const b = await upload(device(), scope, { shape: [3, 1], values: bs });
    const got = await evaluate(bench, 3, (graph) => graph.multiply(graph.load(a), graph.load(b)));
    const wanted = as.map((v, i) => v * bs[Math.trunc(i / columns)]!);
    expect(differences(got, wanted, tolerance.exact)).toEqual([]);
  });
}

type RopeCase = Omit<RopeOptions, 'divisors'> & { readonly heads: number };

export function describeRope(bench: Bench): void {
  const { device, scope, tolerance } = bench;
  it.each<RopeCase>([
    { heads: 1, headDim: 2, rotaryDims: 2, style: 'half', factor: 1 },
    { heads: 4, headDim: 16, rotaryDims: 16, style: 'half', factor: 1 },
    { heads: 3, headDim: 64, rotaryDims: 64, style: 'half', factor: 1.25 },
    { heads: 3, headDim: 30, rotaryDims: 14, style: 'half', factor: 1 },
    { heads: 2, headDim: 16, rotaryDims: 16, style: 'interleaved', factor: 1 },
    { heads: 3, headDim: 34, rotaryDims: 10, style: 'interleaved', factor: 0.75 },
  ])('rotates at the positions of the batch: %j', async ({ heads, ...options }) => {
    const rows = [lonelyRow([4, 0, 7], 0, [1]), lonelyRow([9], 65, [3, 2]), lonelyRow([9, 3], 300, [4, 5, 6, 7, 8])];
    const positions = [0, 1, 2, 65, 300, 301];
    const columns = heads * options.headDim;
    const xs = randomNumbers(12, positions.length * columns);
    const divisors = Float32Array.from({ length: options.rotaryDims / 2 }, (_, i) => 1.7 ** i);
    const x = await upload(device(), scope, { shape: [positions.length, columns], values: xs });
    const weight = await uploadWeight(device(), scope, { shape: [divisors.length], values: divisors });
    const got = await evaluate(bench, positions.length, (graph) => graph.rope(graph.load(x), { ...options, divisors: weight }), rows);
    const wanted = positions.flatMap((position, row) =>
      naiveRope(xs.subarray(row * columns, (row + 1) * columns), position, { ...options, divisors }),
    );
    // An angle of 300 is rounded to 3e-5 in f32.
    expect(differences(got, wanted, tolerance.exact + 2e-5)).toEqual([]);
  });
}
