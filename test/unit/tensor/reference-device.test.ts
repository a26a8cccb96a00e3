import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { erf, gelu } from '../../../src/tensor/reference/gelu.ts';
import { MemoryError } from '../../../src/util/errors.ts';
import { lonelyRow } from '../../helpers/bench.ts';
import { describeDeviceConformance } from '../../helpers/device-conformance.ts';
import { download, Scope, uploadWeight } from '../../helpers/tensors.ts';

// Sums are made in double precision, so what is left is the rounding of the result to f32.
describeDeviceConformance('reference device', async () => createReferenceDevice(), { exact: 1e-7 });

describe('createReferenceDevice', () => {
  it('refuses to exceed its memory and says how much there is', () => {
    const device = createReferenceDevice({ memoryBytes: 100 });
    device.allocate('a', 'f32', [20]);
    expect(() => device.allocate('b', 'f16', [11])).toThrow(/b: 22 bytes asked for, 80 of 100 in use/);
    expect(() => device.allocate('b', 'f16', [11])).toThrow(MemoryError);
    expect(device.allocate('c', 'f16', [10]).byteLength).toBe(20);
  });

  it('shows memory that was never written as not a number', async () => {
    const device = createReferenceDevice();
    for (const dtype of ['f32', 'f16', 'bf16'] as const)
      expect([...(await download(device, device.allocate('t', dtype, [2])))]).toEqual([NaN, NaN]);
  });

  it('refuses tensors that were disposed, belong to others, or have no size', async () => {
    const [device, other] = [createReferenceDevice(), createReferenceDevice()];
    const graph = new GraphBuilder('g', 1);
    const tensor = device.allocate('x', 'f32', [1, 1]);
    graph.store(graph.load(tensor), tensor);
    const program = device.compile(graph.finish());
    await expect(other.run(program)).rejects.toThrow(/x belongs to another device/);
    await expect(other.write(tensor, 0, new Uint8Array(4))).rejects.toThrow(/x belongs to another device/);
    tensor[Symbol.dispose]();
    await expect(device.run(program)).rejects.toThrow(/x is used after it was disposed/);
    expect(() => device.allocate('y', 'f32', [3, 0])).toThrow(/y: bad shape \[3, 0\]/);
  });

  it('refuses rows that cannot be looked up, and batches that do not fit', async () => {
    const [device, scope] = [createReferenceDevice(), new Scope()];
    const table = await uploadWeight(device, scope, { shape: [3, 1], values: [1, 2, 3] });
    const graph = new GraphBuilder('g', 1);
    graph.embed(table, 'token');
    const finished = graph.finish();
    const rows = [lonelyRow([3], 0, [1])];
    const batch = device.createBatch(rows);
    const program = device.compile(finished, batch);
    await expect(device.run(program)).rejects.toThrow(/before it was written/);
    await batch.write(rows);
    await expect(device.run(program)).rejects.toThrow(/row 3 looked up in a table of 3/);
    expect(() => device.compile(finished)).toThrow(/embed needs a batch/);
    expect(() => device.compile(finished, device.createBatch([lonelyRow([1, 2], 0, [1])]))).toThrow(/embed has 1 rows, its batch 2/);
    await expect(batch.write([lonelyRow([1], 64, [1])])).rejects.toThrow(/65 positions has 1 pages, 2 needed/);
  });
});

describe('gelu', () => {
  // Abramowitz and Stegun, table 7.1.
  it.each([
    [0, 0],
    [0.1, 0.1124629160182849],
    [0.5, 0.5204998778130465],
    [1, 0.8427007929497149],
    [2, 0.9953222650189527],
    [-1.5, -0.9661051464753108],
    [40, 1],
  ])('erf(%d) = %d', (x, wanted) => {
    expect(erf(x)).toBeCloseTo(wanted, 14);
  });

  it('is the exact one, not the tanh approximation, which differs by 0.0004 at 2', () => {
    expect(gelu(2)).toBeCloseTo(1.9544997361036416, 14);
    expect(gelu(NaN)).toBeNaN();
  });
});
