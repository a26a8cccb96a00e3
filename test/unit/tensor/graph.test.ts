import { describe, expect, it } from 'vitest';
import type { Tensor, Weight, WeightSegment } from '../../../src/tensor/device.ts';
import type { DType } from '../../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import type { MoeOptions, RopeOptions, Value } from '../../../src/tensor/op-graph.ts';

const tensor = (shape: number[], dtype: DType = 'f32'): Tensor => ({ name: 't', dtype, shape, byteLength: 0, [Symbol.dispose]() {} });

function weight(shape: number[], cuts: readonly number[] = [], types: readonly DType[] = []): Weight {
  const borders = [0, ...cuts, shape[0]!];
  const segments = borders.slice(1).map((to, i) => segment(borders[i]!, to, shape.slice(1), types[i]));
  return { name: 'w', shape, segments };
}

const segment = (from: number, to: number, rest: number[], dtype?: DType): WeightSegment => ({
  from,
  to,
  layout: 'gguf',
  home: 'cpu',
  tensor: tensor([to - from, ...rest], dtype),
});

/** [8, 8], with segments of these rows. */
const inPieces = (...ranges: readonly [number, number][]): Weight => ({
  name: 'w',
  shape: [8, 8],
  segments: ranges.map(([from, to]) => segment(from, to, [8])),
});

const rope = (change: Partial<RopeOptions>): RopeOptions => ({
  headDim: 4,
  rotaryDims: 4,
  style: 'half',
  divisors: weight([2]),
  factor: 1,
  ...change,
});

/** 8 experts of 3 columns. */
const experts = (change: Partial<MoeOptions>): MoeOptions => ({
  gate: weight([24, 8]),
  up: weight([24, 8]),
  down: weight([64, 3]),
  used: 2,
  normalise: true,
  activation: 'silu',
  ...change,
});

describe('GraphBuilder', () => {
  it('gives every value the shape of its op', () => {
    const graph = new GraphBuilder('block', 3);
    const x = graph.load(tensor([4, 8]));
    const y = graph.linear(x, weight([6, 8], [2]), { bias: weight([6]), activation: 'gelu' });
    const z = graph.select(tensor([4, 8]), tensor([2], 'i32'));
    const e = graph.embed(weight([100, 5], [32, 64]), 'position', { offset: 2 });
    const m = graph.moe(x, x, experts({ gate: weight([24, 8], [9, 21]) }));
    graph.store(y, tensor([3, 6]));
    const shapes = [x, y, z, e, m].map(({ rows, columns }) => [rows, columns]);
    expect(shapes).toEqual([
      [3, 8],
      [3, 6],
      [2, 8],
      [3, 5],
      [3, 8],
    ]);
  });

  it('freezes the finished graph, which later ops do not change', () => {
    const builder = new GraphBuilder('g', 1);
    builder.load(tensor([1, 1]));
    const graph = builder.finish();
    builder.load(tensor([1, 1]));
    expect(graph.nodes).toHaveLength(1);
    expect([graph, graph.nodes, graph.nodes[0]].every(Object.isFrozen)).toBe(true);
  });

  it.each<[string, (graph: GraphBuilder, x: Value) => unknown, RegExp]>([
    ['a load of too few rows', (g) => g.load(tensor([2, 8])), /3 rows wanted, it has 2/],
    ['a load of indices', (g) => g.load(tensor([3, 8], 'i32')), /f32 matrix expected, got i32 \[3, 8\]/],
    ['a load of a vector', (g) => g.load(tensor([8])), /f32 matrix expected, got f32 \[8\]/],
    ['a store of other columns', (g, x) => g.store(x, tensor([3, 7])), /store \[3, 8\] to t \[3, 7\]/],
    ['a store of too many rows', (g, x) => g.store(x, tensor([2, 8])), /store \[3, 8\] to t \[2, 8\]/],
    ['a table that is a vector', (g) => g.embed(weight([8]), 'token'), /table w has shape \[8\]/],
    [
      'a table with a gap',
      (g) => g.embed(inPieces([0, 4], [5, 8]), 'token'),
      /table w: segments of rows 0 to 8 .* got rows 0 to 4, 5 to 8/,
    ],
    ['a table whose end is missing', (g) => g.embed(inPieces([0, 4], [4, 7]), 'token'), /got rows 0 to 4, 4 to 7/],
    ['a table without its beginning', (g) => g.embed(inPieces([1, 8]), 'token'), /got rows 1 to 8/],
    ['a table without segments', (g) => g.embed(inPieces(), 'token'), /got rows none/],
    ['a weight in pieces that overlap', (g, x) => g.linear(x, inPieces([0, 5], [4, 8])), /weight w: .* got rows 0 to 5, 4 to 8/],
    ['a weight with an empty piece', (g, x) => g.linear(x, inPieces([0, 8], [8, 8])), /got rows 0 to 8, 8 to 8/],
    ['float indices', (g) => g.select(tensor([4, 8]), tensor([2])), /ids t must be i32/],
    ['a weight of other inputs', (g, x) => g.linear(x, weight([6, 9])), /\[3, 8\] times w \[6, 9\]/],
    ['a bias of other length', (g, x) => g.linear(x, weight([6, 8]), { bias: weight([8]) }), /bias w: \[6\] expected, got \[8\]/],
    ['a residual of other shape', (g, x) => g.linear(x, weight([6, 8]), { residual: x }), /residual: \[3, 8\] and \[3, 6\] differ/],
    ['factors of other shape', (g, x) => g.linear(x, weight([6, 8]), { factors: x }), /factors: \[3, 8\] and \[3, 6\] differ/],
    ['a norm weight of other length', (g, x) => g.norm(x, { kind: 'layer', weight: weight([7]), epsilon: 1 }), /weight w: \[8\] expected/],
    [
      'a norm weight longer than a group',
      (g, x) => g.norm(x, { kind: 'rms', groups: 2, weight: weight([8]), epsilon: 1 }),
      /w: \[4\] expected/,
    ],
    ['uneven groups', (g, x) => g.norm(x, { kind: 'rms', groups: 3, epsilon: 1 }), /norm: \[3, 8\] in 3 groups/],
    ['an rms norm with bias', (g, x) => g.norm(x, { kind: 'rms', bias: weight([8]), epsilon: 1 }), /rms has no bias/],
    ['a sum of different shapes', (g, x) => g.add(x, g.load(tensor([3, 7]))), /add: \[3, 8\] and \[3, 7\] differ/],
    ['a product of different shapes', (g, x) => g.multiply(x, g.load(tensor([3, 7]))), /multiply: \[3, 8\] and \[3, 7\] differ/],
    ['experts of other width', (g, x) => g.moe(x, x, experts({ down: weight([64, 4]) })), /moe: down w: \[64, 3\] expected, got \[64, 4\]/],
    [
      'experts cut in two',
      (g, x) => g.moe(x, x, experts({ up: weight([24, 8], [10]) })),
      /moe: up w: segments of rows 0 to 24 in multiples of 3 expected, got rows 0 to 10, 10 to 24/,
    ],
    [
      'experts of several types',
      (g, x) => g.moe(x, x, experts({ up: weight([24, 8], [9], ['f32', 'f16']) })),
      /moe: up w: segments of one type expected, got f32, f16/,
    ],
    ['more experts than there are', (g, x) => g.moe(x, x, experts({ used: 9 })), /moe: 9 of 8 experts/],
    ['logits of other rows', (g, x) => g.moe(x, g.select(tensor([4, 8]), tensor([2], 'i32')), experts({})), /logits \[2, 8\]/],
    ['a factor that is no number', (g, x) => g.scale(x, NaN), /scale: factor NaN/],
    ['a cap of 0', (g, x) => g.softcap(x, 0), /softcap: cap 0/],
    ['rope of heads that do not fill the columns', (g, x) => g.rope(x, rope({ headDim: 3 })), /rope: \[3, 8\] in heads of 3/],
    ['rope of odd heads', (g, x) => g.rope(x, rope({ headDim: 1 })), /rope: \[3, 8\] in heads of 1/],
    ['rope of an odd number of columns', (g, x) => g.rope(x, rope({ rotaryDims: 3 })), /3 rotated columns, an even number up to 4/],
    ['rope of more than a head', (g, x) => g.rope(x, rope({ rotaryDims: 6 })), /6 rotated columns, an even number up to 4/],
    ['rope with other divisors', (g, x) => g.rope(x, rope({ divisors: weight([4]) })), /divisors w: \[2\] expected, got \[4\]/],
    [
      'rope of a part of the tokens',
      (g) => g.rope(g.select(tensor([4, 8]), tensor([2], 'i32')), rope({})),
      /rope: 2 rows, the micro-batch has 3/,
    ],
  ])('refuses %s', (_what, build, message) => {
    const graph = new GraphBuilder('block', 3);
    const x = graph.load(tensor([3, 8]));
    expect(() => build(graph, x)).toThrow(message);
    expect(() => build(graph, x)).toThrow(/^graph block: /);
  });

  it.each([
    ['heads that do not fill the columns', { heads: 3 }, /q \[3, 8\] with 3 heads of 2/],
    ['heads that cannot share keys evenly', { kvHeads: 3 }, /q \[3, 8\] with 4 heads of 2/],
    ['keys of other width', { kvHeads: 1 }, /k \[3, 4\], v \[3, 4\], 2 columns expected/],
    ['a cache of other width', { cacheColumns: 6 }, /cache has 6 columns, 4 expected/],
    ['a window of half a position', { window: 0.5 }, /window of 0.5 positions/],
    ['a negative cap', { softcap: -1 }, /softcap -1/],
    ['queries for a part of the tokens', { rows: 2 }, /2 rows, the micro-batch has 3/],
  ])('refuses attention with %s', (_what, change, message) => {
    const { cacheColumns, rows, ...options } = { heads: 4, kvHeads: 2, cacheColumns: 4, rows: 3, ...change };
    const graph = new GraphBuilder('block', 3);
    const q = graph.select(tensor([3, 8]), tensor([rows], 'i32'));
    const k = graph.load(tensor([3, 4]));
    const cache = { keys: tensor([64, cacheColumns]), values: tensor([64, cacheColumns]) };
    expect(() => graph.attention(q, k, k, cache, { headDim: 2, scale: 1, ...options })).toThrow(message);
  });
});
