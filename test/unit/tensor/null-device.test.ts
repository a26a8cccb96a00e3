import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import { SimulatedClock } from '../../../src/util/simulated-clock.ts';
import { lonelyRow } from '../../helpers/bench.ts';
import { Scope, uploadWeight } from '../../helpers/tensors.ts';

const rates = { flopsPerSecond: 1e9, bytesPerSecond: 1e6 };

describe('createNullDevice', () => {
  it('records flops, bytes and the longer one of both times', async () => {
    const [device, scope] = [createNullDevice(rates), new Scope()];
    const x = device.allocate('x', 'f32', [8, 10]);
    const weight = await uploadWeight(device, scope, { dtype: 'f16', shape: [20, 10], values: new Float32Array(200), cuts: [5] });
    const graph = new GraphBuilder('product', 8);
    graph.linear(graph.load(x), weight);
    await device.run(device.compile(graph.finish()));
    // 8 * 20 * 10 products and sums; 200 numbers of 2 bytes and 80 of 4.
    expect(device.steps).toEqual([{ program: 'product', flops: 3200, bytes: 720, seconds: 720e-6 }]);
  });

  it('takes simulated time, one run after the other', async () => {
    const [clock, scope] = [new SimulatedClock(), new Scope()];
    const device = createNullDevice({ ...rates, clock });
    const x = device.allocate('x', 'f32', [8, 10]);
    const weight = await uploadWeight(device, scope, { dtype: 'f32', shape: [20, 10], values: new Float32Array(200) });
    const graph = new GraphBuilder('product', 8);
    graph.linear(graph.load(x), weight);
    const program = device.compile(graph.finish());
    const ends = [1, 2].map(async () => {
      await device.run(program);
      return clock.now;
    });
    // 280 numbers of 4 bytes.
    expect(await clock.run(Promise.all(ends))).toEqual([1120e-6, 2240e-6]);
  });

  it('counts attention by the rows that the batch holds at the time of the run', async () => {
    const device = createNullDevice({ flopsPerSecond: 1, bytesPerSecond: 1e9 });
    const cache = { keys: device.allocate('k', 'f16', [256, 4]), values: device.allocate('v', 'f16', [256, 4]) };
    const q = device.allocate('q', 'f32', [3, 8]);
    const kv = device.allocate('kv', 'f32', [3, 4]);
    const rows = [lonelyRow([1, 2], 0, [1]), lonelyRow([1], 9, [2])];
    const graph = new GraphBuilder('attention', 3);
    const k = graph.load(kv);
    graph.attention(graph.load(q), k, k, cache, { heads: 4, kvHeads: 2, headDim: 2, scale: 1 });
    const batch = device.createBatch(rows);
    const program = device.compile(graph.finish(), batch);
    await batch.write(rows);
    await device.run(program);
    await batch.write([rows[0]!, lonelyRow([1], 10, [2])]);
    await device.run(program);
    // 1 + 2 + 10 pairs of query and key, then one more; 2 products and 2 sums for each of 8 columns.
    expect(device.steps.map(({ flops }) => flops)).toEqual([13 * 32, 14 * 32]);
    // Inputs of 96 and 48 bytes; 12, then 13 positions of 8 bytes in keys and values.
    expect(device.steps.map(({ bytes }) => bytes)).toEqual([144 + 12 * 16, 144 + 13 * 16]);
    expect(device.steps.map(({ seconds }) => seconds)).toEqual([416, 448]);
  });

  it.each([
    // Each token's positions within the window; the positions that any of the row's tokens sees.
    { window: 1, pairs: 3, positions: 3 },
    { window: 2, pairs: 1 + 2 + 2, positions: 2 + 2 },
    { window: 10, pairs: 1 + 2 + 10, positions: 2 + 10 },
    { window: 100, pairs: 1 + 2 + 10, positions: 2 + 10 },
  ])('counts attention with a window of $window', async ({ window, pairs, positions }) => {
    const device = createNullDevice({ flopsPerSecond: 1, bytesPerSecond: 1e9 });
    const cache = { keys: device.allocate('k', 'f16', [256, 4]), values: device.allocate('v', 'f16', [256, 4]) };
    const [q, kv] = [device.allocate('q', 'f32', [3, 8]), device.allocate('kv', 'f32', [3, 4])];
    const rows = [lonelyRow([1, 2], 0, [1]), lonelyRow([1], 9, [2])];
    const graph = new GraphBuilder('attention', 3);
    const k = graph.load(kv);
    graph.attention(graph.load(q), k, k, cache, { heads: 4, kvHeads: 2, headDim: 2, scale: 1, window });
    const batch = device.createBatch(rows, { windows: [window] });
    await batch.write(rows);
    await device.run(device.compile(graph.finish(), batch));
    expect(device.steps[0]).toMatchObject({ flops: pairs * 32, bytes: 144 + positions * 16 });
  });

  it('counts the experts that tokens use, and the weights of at most all', async () => {
    const [device, scope] = [createNullDevice(rates), new Scope()];
    const stack = (shape: number[]) => uploadWeight(device, scope, { shape, values: new Float32Array(shape[0]! * shape[1]!) });
    // 8 experts of 10 columns around 5.
    const weights = { gate: await stack([40, 10]), up: await stack([40, 10]), down: await stack([80, 5]) };
    for (const rows of [1, 3, 16]) {
      const [x, logits] = [device.allocate('x', 'f32', [rows, 10]), device.allocate('logits', 'f32', [rows, 8])];
      const graph = new GraphBuilder('experts', rows);
      graph.moe(graph.load(x), graph.load(logits), { ...weights, used: 2, normalise: true, activation: 'silu' });
      await device.run(device.compile(graph.finish()));
    }
    expect(device.steps.map(({ flops }) => flops)).toEqual([1, 3, 16].map((rows) => rows * 2 * 2 * 3 * 50));
    expect(device.steps.map(({ bytes }) => bytes)).toEqual([2, 6, 8].map((used, i) => used * 3 * 50 * 4 + [1, 3, 16][i]! * 18 * 4));
  });

  it('counts lookups in several segments as in one, and needs all of them', async () => {
    const [device, scope] = [createNullDevice(rates), new Scope()];
    const [x, logits] = [device.allocate('x', 'f32', [3, 10]), device.allocate('logits', 'f32', [3, 8])];
    const rows = [lonelyRow([1, 2, 3], 0, [1])];
    const batch = device.createBatch(rows);
    await batch.write(rows);
    // 8 experts of 10 columns around 5, in segments that begin with these.
    const programOf = async (cuts: number[]) => {
      const make = (name: string, [each, inputs]: [number, number]) => {
        const contents = { name, shape: [8 * each, inputs], values: new Float32Array(8 * each * inputs) };
        return uploadWeight(device, scope, { ...contents, dtype: 'f16', cuts: cuts.map((expert) => expert * each) });
      };
      const [table, gate] = [await make('table', [5, 10]), await make('gate', [5, 10])];
      const [up, down] = [await make('up', [5, 10]), await make('down', [10, 5])];
      const graph = new GraphBuilder('lookups', 3);
      graph.embed(table, 'token');
      graph.moe(graph.load(x), graph.load(logits), { gate, up, down, used: 2, normalise: true, activation: 'silu' });
      return { program: device.compile(graph.finish(), batch), table };
    };
    const [whole, split] = [await programOf([]), await programOf([1, 6])];
    await device.run(whole.program);
    await device.run(split.program);
    // 3 rows of 10 numbers of 2 bytes, 6 of 8 experts, 3 rows of x and logits.
    const wanted = { flops: 3 * 2 * 2 * 3 * 50, bytes: 3 * 20 + 6 * 3 * 50 * 2 + 3 * 18 * 4 };
    expect(device.steps.map(({ flops, bytes }) => ({ flops, bytes }))).toEqual([wanted, wanted]);
    split.table.segments[1]!.tensor[Symbol.dispose]();
    await expect(device.run(split.program)).rejects.toThrow(/table is used after it was disposed/);
  });

  it('reads zeros and holds no data, however large a tensor is', async () => {
    const device = createNullDevice(rates);
    const tensor = device.allocate('weights of a large model', 'f16', [1e6, 1e6]);
    await device.write(tensor, 0, new Uint8Array([1, 2, 3]));
    const bytes = new Uint8Array(3).fill(9);
    await device.read(tensor, 0, bytes);
    expect([...bytes]).toEqual([0, 0, 0]);
    expect(device.memory()).toEqual({ usedBytes: 2e12, peakBytes: 2e12 });
    tensor[Symbol.dispose]();
    tensor[Symbol.dispose]();
    expect(device.memory()).toEqual({ usedBytes: 0, peakBytes: 2e12 });
  });

  it('is as strict as a device with data', async () => {
    const device = createNullDevice({ ...rates, memoryBytes: 100 });
    expect(() => device.allocate('big', 'f32', [26])).toThrow(/big: 104 bytes asked for, 0 of 100 in use/);
    const tensor = device.allocate('x', 'f32', [2, 2]);
    await expect(device.read(tensor, 9, new Uint8Array(8))).rejects.toThrow(/x has 16 bytes, 9 to 17 asked for/);
    const graph = new GraphBuilder('g', 1);
    graph.load(tensor);
    const program = device.compile(graph.finish());
    tensor[Symbol.dispose]();
    await expect(device.run(program)).rejects.toThrow(/x is used after it was disposed/);
    program[Symbol.dispose]();
    await expect(device.run(program)).rejects.toThrow(/program g is run after it was disposed/);
    expect(device.steps).toEqual([]);
  });
});
