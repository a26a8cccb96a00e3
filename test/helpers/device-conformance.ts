/** What every device must do, checked against naive loops: run with each implementation of `Device`. */
import { afterAll, afterEach, beforeAll, describe, expect, it } from 'vitest';
import type { Device, Tensor } from '../../src/tensor/device.ts';
import type { WeightType } from '../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Activation } from '../../src/tensor/op-graph.ts';
import { type Bench, type ConformanceTolerance, evaluate, lonelyRow } from './bench.ts';
import { describeArenas } from './arena-conformance.ts';
import { describeAttention } from './attention-conformance.ts';
import { describeByLength, describeElements, describeNorms, describeRope } from './element-conformance.ts';
import { describeMoe } from './moe-conformance.ts';
import { naiveGelu, naiveGeluTanh, naiveLinear, naiveRelu, naiveSigmoid, naiveSilu } from './naive-ops.ts';
import { describeSplits } from './split-conformance.ts';
import { decode, differences, download, encode, floatWeights, randomNumbers, roundedTo, Scope, upload, uploadWeight } from './tensors.ts';

export function describeDeviceConformance(name: string, makeDevice: () => Promise<Device>, tolerance: ConformanceTolerance): void {
  describe(`${name} conforms`, () => {
    let device: Device | undefined;
    const scope = new Scope();
    beforeAll(async () => {
      device = await makeDevice();
    });
    afterEach(() => scope.close());
    afterAll(async () => {
      await device?.[Symbol.asyncDispose]();
      expect(device?.memory().usedBytes).toBe(0);
      expect(device?.memory().hostBytes ?? 0).toBe(0);
    });

    const bench: Bench = { device: () => device!, scope, tolerance };
    describe('memory', () => {
      describeMemory(bench, makeDevice);
    });
    describe('arenas', () => {
      describeArenas(bench, makeDevice);
    });
    describe('rows of tensors', () => {
      describeRows(bench);
    });
    describe('linear', () => {
      describeLinear(bench);
    });
    describe('norm', () => {
      describeNorms(bench);
      describeByLength(bench);
    });
    describe('element by element', () => {
      describeElements(bench);
    });
    describe('mixture of experts', () => {
      describeMoe(bench);
    });
    describe('lookups in several segments', () => {
      describeSplits(bench);
    });
    describe('rope', () => {
      describeRope(bench);
    });
    describe('attention', () => {
      describeAttention(bench);
    });
  });
}

function describeMemory({ device, scope }: Bench, makeDevice: () => Promise<Device>): void {
  it.each(['f32', 'f16', 'bf16', 'i32'] as const)('writes, reads and copies ranges of %s', async (dtype) => {
    const source = await upload(device(), scope, { dtype, shape: [3, 5], values: Array.from({ length: 15 }, (_, i) => i) });
    const target = await upload(device(), scope, { dtype, shape: [15], values: Array.from({ length: 15 }, () => 99) });
    const item = source.byteLength / 15;
    await device().copy(source, 2 * item, target, 5 * item, 3 * item);
    await device().write(target, 14 * item, encode(dtype, [-7]));
    expect([...(await download(device(), target))]).toEqual([99, 99, 99, 99, 99, 2, 3, 4, 99, 99, 99, 99, 99, 99, -7]);
    const part = new Uint8Array(2 * item);
    await device().read(target, 6 * item, part);
    expect([...decode(dtype, part)]).toEqual([3, 4]);
    await device().copy(target, 5 * item, target, 0, 2 * item);
    expect([...(await download(device(), target)).subarray(0, 3)]).toEqual([2, 3, 99]);
  });

  it('refuses ranges that leave a tensor', async () => {
    const tensor = scope.add(device().allocate('t', 'f32', [2, 2]));
    const bytes = new Uint8Array(8);
    await expect(device().write(tensor, 12, bytes)).rejects.toThrow(/16/);
    await expect(device().read(tensor, -4, bytes)).rejects.toThrow(/16/);
    await expect(device().copy(tensor, 0, tensor, 12, 8)).rejects.toThrow(/16/);
  });

  it('counts bytes, frees once however often disposed, and refuses later use', async () => {
    const own = await makeDevice();
    expect(own.memory().usedBytes).toBe(0);
    const tensors = [own.allocate('a', 'f32', [7, 5]), own.allocate('b', 'f16', [64])];
    const used = own.memory().usedBytes;
    expect(used).toBeGreaterThanOrEqual(7 * 5 * 4 + 128);
    const batch = own.createBatch([lonelyRow([1, 2], 0, [1])]);
    const [a, b] = tensors as [Tensor, Tensor];
    for (const item of [batch, batch, a, b, a, b]) item[Symbol.dispose]();
    expect(own.memory().usedBytes).toBe(0);
    expect(own.memory().peakBytes).toBeGreaterThanOrEqual(used);
    await expect(own.read(a, 0, new Uint8Array(4))).rejects.toThrow(/tensor a/);
    await expect(own.write(a, 0, new Uint8Array(4))).rejects.toThrow(/tensor a/);
    await own[Symbol.asyncDispose]();
  });

  it('runs a program often, with equal memory, until it is disposed', async () => {
    const x = await upload(device(), scope, { shape: [2, 3], values: [1, 2, 3, 4, 5, 6] });
    const graph = new GraphBuilder('double', 2);
    const loaded = graph.load(x);
    graph.store(graph.add(loaded, loaded), x);
    const program = scope.add(device().compile(graph.finish()));
    await device().run(program);
    const used = device().memory().usedBytes;
    for (let i = 0; i < 3; i++) await device().run(program);
    expect(device().memory().usedBytes).toBe(used);
    expect([...(await download(device(), x))]).toEqual([16, 32, 48, 64, 80, 96]);
    program[Symbol.dispose]();
    program[Symbol.dispose]();
    await expect(device().run(program)).rejects.toThrow(/double/);
  });
}

function describeRows(bench: Bench): void {
  const { device, scope } = bench;
  /** 5 tokens of 3 rows. */
  const rows = [lonelyRow([4, 0], 0, [1]), lonelyRow([9], 65, [3, 2]), lonelyRow([9, 3], 7, [4])];

  it.each([1, 3, 31])('loads the first rows, and stores to the first rows only (%i columns)', async (columns) => {
    const fives = (rowCount: number): number[] => Array.from({ length: rowCount * columns }, () => 5);
    const values = randomNumbers(1, 6 * columns);
    const source = await upload(device(), scope, { shape: [6, columns], values });
    const target = await upload(device(), scope, { shape: [8, columns], values: fives(8) });
    const graph = new GraphBuilder('move', 4);
    graph.store(graph.load(source), target);
    await device().run(scope.add(device().compile(graph.finish())));
    expect([...(await download(device(), target))]).toEqual([...values.subarray(0, 4 * columns), ...fives(4)]);
  });

  it.each([
    { columns: 1, by: 'token', offset: 0 },
    { columns: 33, by: 'token', offset: 0 },
    { columns: 33, by: 'token', offset: 1 },
    { columns: 3, by: 'position', offset: 0 },
    { columns: 65, by: 'position', offset: 2 },
  ] as const)('embeds by $by, offset $offset, $columns columns, in every weight type', async ({ columns, by, offset }) => {
    for (const dtype of floatWeights(device())) {
      const values = randomNumbers(2, 70 * columns);
      const table = await uploadWeight(device(), scope, { dtype, shape: [70, columns], values });
      const got = await evaluate(bench, 5, (graph) => graph.embed(table, by, { offset }), rows);
      const stored = roundedTo(dtype, values);
      const indices = by === 'token' ? [4, 0, 9, 9, 3] : [0, 1, 65, 7, 8];
      const wanted = indices.flatMap((i) => [...stored.subarray((i + offset) * columns, (i + offset + 1) * columns)]);
      expect(differences(got, wanted, 0, dtype)).toEqual([]);
    }
  });

  it('selects rows of a tensor, in any order and number', async () => {
    const tensor = await upload(device(), scope, { shape: [4, 3], values: Array.from({ length: 12 }, (_, i) => i) });
    const ids = await upload(device(), scope, { dtype: 'i32', shape: [6], values: [3, 0, 0, 2, 1, 3] });
    const got = await evaluate(bench, 1, (graph) => graph.select(tensor, ids));
    expect([...got]).toEqual([3, 0, 0, 2, 1, 3].flatMap((i) => [3 * i, 3 * i + 1, 3 * i + 2]));
  });

  it('reads what the batch was last written with', async () => {
    const again = [lonelyRow([1, 2], 0, [5]), lonelyRow([8], 65, [2, 3]), lonelyRow([0, 69], 7, [1])];
    expect(device().batchKey(again)).toBe(device().batchKey(rows));
    const table = await uploadWeight(device(), scope, { shape: [70, 1], values: Array.from({ length: 70 }, (_, i) => i) });
    const out = scope.add(device().allocate('out', 'f32', [5, 1]));
    const graph = new GraphBuilder('tokens', 5);
    graph.store(graph.embed(table, 'token'), out);
    const batch = scope.add(device().createBatch(rows));
    expect(batch.tokenCount).toBe(5);
    expect(batch.key).toBe(device().batchKey(rows));
    const program = scope.add(device().compile(graph.finish(), batch));
    for (const [contents, wanted] of [
      [rows, [4, 0, 9, 9, 3]],
      [again, [1, 2, 8, 0, 69]],
      [rows, [4, 0, 9, 9, 3]],
    ] as const) {
      await batch.write(contents);
      await device().run(program);
      expect([...(await download(device(), out))]).toEqual(wanted);
    }
    await expect(batch.write([...rows, lonelyRow([1], 0, [6])])).rejects.toThrow(/batch/);
  });
}

interface LinearCase {
  readonly rows: number;
  readonly inputs: number;
  readonly outputs: number;
  readonly bias?: boolean;
  readonly activation?: Activation;
  readonly factors?: boolean;
  readonly residual?: boolean;
  readonly cuts?: readonly number[];
}

function describeLinear(bench: Bench): void {
  const { device, scope } = bench;
  it.each<LinearCase>([
    { rows: 1, inputs: 1, outputs: 1 },
    { rows: 1, inputs: 3, outputs: 31 },
    { rows: 3, inputs: 31, outputs: 33 },
    { rows: 31, inputs: 33, outputs: 65 },
    { rows: 33, inputs: 65, outputs: 3 },
    { rows: 65, inputs: 64, outputs: 130 },
    { rows: 1, inputs: 65, outputs: 33, bias: true },
    { rows: 31, inputs: 3, outputs: 65, bias: true },
    { rows: 3, inputs: 33, outputs: 31, activation: 'relu' },
    { rows: 3, inputs: 33, outputs: 31, bias: true, activation: 'gelu' },
    { rows: 3, inputs: 33, outputs: 31, activation: 'gelu_tanh' },
    { rows: 31, inputs: 9, outputs: 65, bias: true, activation: 'gelu_tanh', residual: true, cuts: [1, 32] },
    { rows: 3, inputs: 33, outputs: 31, activation: 'silu' },
    { rows: 3, inputs: 33, outputs: 31, bias: true, activation: 'sigmoid' },
    { rows: 31, inputs: 9, outputs: 65, bias: true, activation: 'silu', residual: true, cuts: [33] },
    { rows: 3, inputs: 33, outputs: 31, residual: true },
    { rows: 3, inputs: 33, outputs: 31, factors: true },
    { rows: 31, inputs: 9, outputs: 65, bias: true, activation: 'gelu_tanh', factors: true, residual: true, cuts: [1, 32] },
    { rows: 33, inputs: 31, outputs: 65, bias: true, activation: 'relu', residual: true },
    { rows: 1, inputs: 31, outputs: 65, bias: true, activation: 'gelu', residual: true, cuts: [33] },
    { rows: 31, inputs: 65, outputs: 33, cuts: [1] },
    { rows: 3, inputs: 31, outputs: 65, bias: true, residual: true, cuts: [1, 32] },
  ])('%j in every weight type', async (linearCase) => {
    for (const type of floatWeights(device())) expect(await linearDifferences(bench, type, linearCase)).toEqual([]);
  });

  it.each<[Activation, number[]]>([
    ['relu', [0, 0, 0, 100, 3e4]],
    ['gelu', [0, 0, 0, 100, 3e4]],
    ['gelu_tanh', [0, 0, 0, 100, 3e4]],
    ['silu', [0, 0, 0, 100, 3e4]],
    ['sigmoid', [0, 0, 0.5, 1, 1]],
  ])('%s of large numbers, and of what is none', async (activation, wanted) => {
    const x = await upload(device(), scope, { shape: [6, 1], values: [-3e4, -100, 0, 100, 3e4, NaN] });
    const weight = await uploadWeight(device(), scope, { shape: [1, 1], values: [1] });
    const got = await evaluate(bench, 6, (graph) => graph.linear(graph.load(x), weight, { activation }));
    expect(differences(got.subarray(0, 5), wanted, 1e-6)).toEqual([]);
    const hidesNaN = activation === 'relu' && bench.tolerance.reluHidesNaN === true;
    expect(Number.isFinite(got[5])).toBe(hidesNaN);
  });

  it('keeps what is not a number', async () => {
    const x = await upload(device(), scope, { shape: [2, 3], values: [1, NaN, 2, 1, 2, 3] });
    const weight = await uploadWeight(device(), scope, { shape: [2, 3], values: [1, 1, 1, 2, 2, 2] });
    expect([...(await evaluate(bench, 2, (graph) => graph.linear(graph.load(x), weight)))]).toEqual([NaN, NaN, 6, 12]);
  });
}

async function linearDifferences(bench: Bench, type: WeightType, c: LinearCase): Promise<string[]> {
  const { device, scope, tolerance } = bench;
  const [xs, ws] = [randomNumbers(3, c.rows * c.inputs), randomNumbers(4, c.outputs * c.inputs)];
  const [bs, rs, fs] = [randomNumbers(5, c.outputs), randomNumbers(6, c.rows * c.outputs), randomNumbers(7, c.rows * c.outputs)];
  const x = await upload(device(), scope, { shape: [c.rows, c.inputs], values: xs });
  const weight = await uploadWeight(device(), scope, { dtype: type, shape: [c.outputs, c.inputs], values: ws, cuts: c.cuts ?? [] });
  const bias = c.bias ? await uploadWeight(device(), scope, { name: 'bias', shape: [c.outputs], values: bs }) : undefined;
  const residual = c.residual ? await upload(device(), scope, { shape: [c.rows, c.outputs], values: rs }) : undefined;
  const factors = c.factors ? await upload(device(), scope, { shape: [c.rows, c.outputs], values: fs }) : undefined;
  const got = await evaluate(bench, c.rows, (graph) =>
    graph.linear(graph.load(x), weight, {
      bias,
      ...(c.activation && { activation: c.activation }),
      ...(factors && { factors: graph.load(factors) }),
      ...(residual && { residual: graph.load(residual) }),
    }),
  );
  const activate = {
    none: (y: number) => y,
    relu: naiveRelu,
    gelu: naiveGelu,
    gelu_tanh: naiveGeluTanh,
    silu: naiveSilu,
    sigmoid: naiveSigmoid,
  }[c.activation ?? 'none'];
  const wanted = naiveLinear(xs, roundedTo(type, ws), c).map(
    (y, i) => activate(y + (c.bias ? bs[i % c.outputs]! : 0)) * (c.factors ? fs[i]! : 1) + (c.residual ? rs[i]! : 0),
  );
  const exact = device().capabilities.exactWeights.includes(type);
  return differences(got, wanted, exact ? tolerance.exact : (tolerance.roundedWeights ?? tolerance.exact), type);
}
