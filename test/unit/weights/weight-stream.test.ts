import { describe, expect, it } from 'vitest';
import type { LayerSpec, WeightSpec } from '../../../src/models/model.ts';
import type { Device } from '../../../src/tensor/device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { placeWeights, type TierShares } from '../../../src/weights/placement.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import type { WeightSource } from '../../../src/weights/weight-source.ts';
import { WeightStore } from '../../../src/weights/weight-store.ts';

const ROWS = 96;
const COLUMNS = 4;
const LAYERS = 7;

const spec = (layer: number): WeightSpec => ({ name: `w${layer}`, shape: [ROWS, COLUMNS], role: 'matrix', sources: [`w${layer}`] });
const layers: LayerSpec[] = Array.from({ length: LAYERS }, (_, i) => ({
  name: `layer ${i}`,
  weights: [spec(i), { name: `b${i}`, shape: [4], role: 'vector', sources: [`b${i}`] }],
  attends: false,
  build: () => ({ node: 0, rows: 0, columns: 0 }),
}));

interface Reads {
  readonly source: WeightSource;
  /** Names of weights in the order in which reading them began; a weight counts once for each reading of its first row. */
  readonly order: string[];
  /** Reads of this name fail from now on. */
  broken: string | undefined;
  /** Reads of matrices wait for this. */
  gate: Promise<void>;
  /** Only those of this name do. */
  gated: string | undefined;
}

/** Every element of a layer's matrix is the layer's number plus a thousandth of the row. */
function makeReads(): Reads {
  const reads: Reads = {
    order: [],
    broken: undefined,
    gated: undefined,
    gate: Promise.resolve(),
    source: {
      find: ({ name }) => ({
        dtype: 'f32',
        read: async (first, target) => {
          if (name.startsWith('w')) reads.order.push(name);
          if (name.startsWith('w') && name === (reads.gated ?? name)) await reads.gate;
          if (name === reads.broken) throw new Error(`the disk lost ${name}`);
          const numbers = new Float32Array(target.buffer, target.byteOffset, target.byteLength / 4);
          for (let i = 0; i < numbers.length; i++) numbers[i] = Number(name.slice(1)) + Math.floor((first + i) / COLUMNS) / 1000;
        },
      }),
    },
  };
  return reads;
}

function openStore(reads: Reads, share: number | TierShares, slots: number, overlap = true, signal?: AbortSignal) {
  const device = createReferenceDevice();
  const store = new WeightStore(device, { layers }, reads.source, { compute: 'f32', overlap, signal });
  store.start({ placement: placeWeights(store.plan, share), slots });
  return { device, store };
}

type Opened = ReturnType<typeof openStore>;

/** What a program of the layer would read. */
async function contentsOf({ device, store }: Opened, layer: number): Promise<number[]> {
  const weights = await store.acquire(layer);
  const rows: number[] = [];
  for (const { from, to, tensor } of weights.get(`w${layer}`)!.segments) {
    const values = new Float32Array((to - from) * COLUMNS);
    await device.read(tensor, 0, new Uint8Array(values.buffer));
    for (let row = 0; row < to - from; row++) rows.push(values[row * COLUMNS]!);
  }
  store.release(layer);
  return rows;
}

const wanted = (layer: number): number[] => Array.from({ length: ROWS }, (_, row) => Math.fround(layer + row / 1000));
const settle = () => new Promise((resolve) => setTimeout(resolve, 20));

describe('a store whose weights pass through', () => {
  it.each([
    [0, 2],
    [0, 3],
    [0.34, 3],
    [0.67, 2],
    [0, 20],
    [1, 0],
    [{ resident: 0, held: 1 }, 2],
    [{ resident: 0.34, held: 0.66 }, 3],
    [{ resident: 0.34, held: 0.33 }, 3],
    [{ resident: 0, held: 0.34 }, 2],
  ])('gives every layer its weights in every sweep, with a share of %j and %i slots', async (share, slots) => {
    const opened = openStore(makeReads(), share, slots);
    await using _ = opened.store;
    for (let sweep = 0; sweep < 3; sweep++)
      for (let layer = 0; layer < LAYERS; layer++) expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
  });

  it('reads as far ahead as there are slots, around the end of a sweep', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0, 3);
    await using _ = opened.store;
    await settle();
    expect(reads.order).toEqual(['w0', 'w1', 'w2']);
    for (let layer = 0; layer < LAYERS - 1; layer++) await contentsOf(opened, layer);
    await settle();
    expect(reads.order).toEqual(['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w0']);
  });

  it('reads one layer after the other, what stays of it first, and what stays of later ones while there is no slot', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0.34, 3);
    await using _ = opened.store;
    await opened.store.loaded();
    expect(reads.order).toEqual(['w0', 'w0', 'w1', 'w1', 'w2', 'w2', 'w3', 'w4', 'w5', 'w6']);
  });

  it('reads a layer that is asked for before what stays of later ones, without overlap', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0.34, 3, false);
    await using _ = opened.store;
    expect(await contentsOf(opened, 0)).toEqual(wanted(0));
    await opened.store.loaded();
    expect(reads.order).toEqual(['w0', 'w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6']);
  });

  it('reads a layer only when it is asked for, without overlap', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0, 3, false);
    await using _ = opened.store;
    await settle();
    expect(reads.order).toEqual([]);
    for (const layer of [0, 1, 2, 3, 4, 5, 6, 0, 1]) {
      expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
      await settle();
    }
    expect(reads.order).toEqual(['w0', 'w1', 'w2', 'w3', 'w4', 'w5', 'w6', 'w0', 'w1']);
  });

  it('reads what it holds in RAM once, and copies it for every sweep', async () => {
    const reads = makeReads();
    const opened = openStore(reads, { resident: 0.34, held: 0.66 }, 2);
    await using _ = opened.store;
    const homes = (await opened.store.acquire(3)).get('w3')!.segments.map(({ from, to, home }) => [from, to, home]);
    expect(homes).toEqual([
      [0, 32, 'cpu'], // the reference computes in RAM
      [32, ROWS, 'cpu'],
    ]);
    opened.store.release(3);
    for (let sweep = 0; sweep < 3; sweep++)
      for (let layer = 0; layer < LAYERS; layer++) expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
    // Each layer's part on the device, and its part in RAM.
    expect(reads.order.toSorted()).toEqual(layers.flatMap(({ weights: [w] }) => [w!.name, w!.name]));
  });

  it('copies nothing to the device before it is in RAM', async () => {
    const reads = makeReads();
    reads.gated = 'w6';
    reads.gate = new Promise((resolve) => setTimeout(resolve, 50));
    const opened = openStore(reads, { resident: 0, held: 1 }, 3);
    await using _ = opened.store;
    for (let layer = 0; layer < LAYERS; layer++) expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
  });

  it('says what it copies', async () => {
    const lanes = new LaneLog();
    const device = createReferenceDevice();
    await using store = new WeightStore(device, { layers }, makeReads().source, { compute: 'f32', lanes });
    store.start({ placement: placeWeights(store.plan, { resident: 0, held: 1 }), slots: 2 });
    for (let layer = 0; layer < LAYERS; layer++) await contentsOf({ device, store }, layer);
    const uploads = lanes.totals().find(({ lane }) => lane === 'upload')!;
    expect(uploads.pieces).toBeGreaterThanOrEqual(LAYERS);
    expect(uploads.bytes).toBe(uploads.pieces * ROWS * COLUMNS * 4);
  });

  it('reads nothing over a layer that is held', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0, 2);
    await using _ = opened.store;
    await opened.store.acquire(0);
    await contentsOf(opened, 1);
    await settle();
    expect(reads.order).toEqual(['w0', 'w1']);
    expect(await contentsOf(opened, 0)).toEqual(wanted(0));
    opened.store.release(0);
    await settle();
    expect(reads.order.length).toBeGreaterThan(2);
  });

  it('goes to whatever layer is asked for, as after a sweep that ended early', async () => {
    const opened = openStore(makeReads(), 0.34, 3);
    await using _ = opened.store;
    for (const layer of [0, 1, 2, 0, 1, 5, 6, 3, 0, 6]) expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
  });

  it.each([0.34, { resident: 0.34, held: 0.33 }])('takes no more memory than was planned, for %j', async (shares) => {
    const device = createReferenceDevice();
    const store = new WeightStore(device, { layers }, makeReads().source, { compute: 'f32' });
    const placement = placeWeights(store.plan, shares);
    store.start({ placement, slots: 3 });
    for (let layer = 0; layer < LAYERS; layer++) await contentsOf({ device, store }, layer);
    expect(device.memory().peakBytes).toBe(placement.residentBytes + placement.heldBytes + 3 * placement.slotBytes);
    await store[Symbol.asyncDispose]();
    expect(device.memory().usedBytes).toBe(0);
  });

  it('is in as many pieces of memory as the device wants, and refuses rows that are larger than one', () => {
    const pieces: number[] = [];
    const limited = (mostBytes: number): Device => {
      const device = createReferenceDevice();
      const arenaRules = { mostBytes, mostHostBytes: mostBytes, paddingBytes: 0 };
      const reserve: Device['reserve'] = (name, byteLength) => {
        pieces.push(byteLength);
        return device.reserve!(name, byteLength);
      };
      return new Proxy(device, { get: (target, key) => ({ arenaRules, reserve })[key as 'reserve'] ?? Reflect.get(target, key, target) });
    };
    const start = (share: number, mostBytes: number): void => {
      const store = new WeightStore(limited(mostBytes), { layers }, makeReads().source, { compute: 'f32' });
      store.start({ placement: placeWeights(store.plan, share), slots: 2 });
    };
    // Each matrix and each vector takes a page.
    start(1, 3 * 4096);
    expect(pieces).toEqual([3, 3, 3, 3, 2].map((pages) => pages * 4096));
    expect(() => start(0, 4095)).toThrow('weights: 4.10 kB in one piece, reference gives at most 4.09 kB');
  });

  it('tells whoever acquires a layer what could not be read, in this sweep and later ones, and frees everything', async () => {
    const reads = makeReads();
    const opened = openStore(reads, 0, 3);
    for (let layer = 0; layer < LAYERS; layer++) await contentsOf(opened, layer);
    reads.broken = 'w4';
    for (let layer = 0; layer < 4; layer++) await contentsOf(opened, layer);
    for (const layer of [4, 5, 0]) await expect(opened.store.acquire(layer)).rejects.toThrow('the disk lost w4');
    await opened.store[Symbol.asyncDispose]();
    expect(opened.device.memory().usedBytes).toBe(0);
  });

  it('is not stopped by the signal that stops loading', async () => {
    const loading = new AbortController();
    const opened = openStore(makeReads(), 0.34, 2, true, loading.signal);
    await using _ = opened.store;
    await opened.store.loaded();
    loading.abort();
    for (let layer = 0; layer < LAYERS; layer++) expect(await contentsOf(opened, layer)).toEqual(wanted(layer));
  });

  it('can be disposed while it reads', async () => {
    const reads = makeReads();
    let open = () => {};
    reads.gate = new Promise((resolve) => (open = resolve));
    const opened = openStore(reads, 0, 3);
    await settle();
    const disposal = opened.store[Symbol.asyncDispose]();
    await settle();
    expect(opened.device.memory().usedBytes).toBeGreaterThan(0);
    open();
    await disposal;
    expect(opened.device.memory().usedBytes).toBe(0);
    expect(reads.order.length).toBeLessThan(LAYERS);
  });
});
