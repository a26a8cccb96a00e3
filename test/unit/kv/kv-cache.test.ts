import { describe, expect, it } from 'vitest';
import { KvCache, type KvSequence } from '../../../src/kv/kv-cache.ts';
import { pageBytes, pagesFor } from '../../../src/kv/layer-groups.ts';
import { type Device, NULL_PAGE, PAGE_POSITIONS, type Tensor } from '../../../src/tensor/device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { MemoryError } from '../../../src/util/errors.ts';
import { decode, encode, randomNumbers } from '../../helpers/tensors.ts';

const SHAPE = { windows: [Infinity, Infinity], columns: 3, type: 'f32', chunk: 512 } as const;
const open = (pages: number, device: Device = createReferenceDevice()) => new KvCache(device, SHAPE, [pages]);
const tensorsOf = (cache: KvCache): Tensor[] => cache.layers.flatMap(({ keys, values }) => [keys, values]);

/** Writes a number that depends on tensor and position to `positions` of a sequence. */
async function fill(device: Device, cache: KvCache, sequence: KvSequence, positions: readonly number[], mark: number): Promise<void> {
  for (const [i, tensor] of tensorsOf(cache).entries()) {
    for (const position of positions) await device.write(tensor, rowOffset(sequence, position), encode('f32', rowOf(mark, i, position)));
  }
}

/** First number of each position, for each tensor. */
async function contents(device: Device, cache: KvCache, sequence: KvSequence): Promise<number[][]> {
  return await Promise.all(
    tensorsOf(cache).map(async (tensor) => {
      const row = new Uint8Array(4 * SHAPE.columns);
      const numbers: number[] = [];
      for (let position = 0; position < sequence.length; position++) {
        await device.read(tensor, rowOffset(sequence, position), row);
        numbers.push(decode('f32', row)[0]!);
      }
      return numbers;
    }),
  );
}

const rowOf = (mark: number, tensor: number, position: number): number[] =>
  Array.from({ length: SHAPE.columns }, () => mark + 1000 * tensor + position);
const rowOffset = (sequence: KvSequence, position: number): number =>
  4 * SHAPE.columns * (sequence.pageLists.pages[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS));
const range = (from: number, to: number): number[] => Array.from({ length: to - from }, (_, i) => from + i);

describe('KvCache', () => {
  it.each([
    [0, 0],
    [1, 1],
    [64, 1],
    [65, 2],
    [2048, 32],
  ])('%i positions take %i pages', (positions, pages) => expect(pagesFor(positions)).toBe(pages));

  it.each([
    [{ windows: [Infinity], columns: 8, type: 'f32', chunk: 512 }, 2 * 64 * 8 * 4],
    [{ windows: Array.from({ length: 12 }, () => Infinity), columns: 768, type: 'f16', chunk: 1 }, 2 * 12 * 64 * 768 * 2],
  ] as const)('a page of %j takes %i bytes', (shape, bytes) => {
    expect(pageBytes(shape, shape.windows.length)).toBe(bytes);
    const device = createReferenceDevice();
    using cache = new KvCache(device, shape, [3]);
    expect(cache.capacityPages).toBe(3);
    expect(device.memory().usedBytes).toBe(4 * bytes); // and the null page
  });

  it('has all its memory given at once, where the device can', async () => {
    using without = open(3);
    await expect(without.claim()).resolves.toBeUndefined();
    const claimed: Tensor[] = [];
    using cache = open(3, Object.assign(createReferenceDevice(), { claim: async (tensor: Tensor) => void claimed.push(tensor) }));
    await cache.claim();
    expect(claimed).toEqual(tensorsOf(cache));
  });

  it('reserves room, takes pages as a sequence grows, and gets them back once', async () => {
    using cache = open(5);
    const sequence = cache.open(200)!;
    expect([cache.availablePages, sequence.pageLists.pages, sequence.length]).toEqual([1, [], 0]);
    await cache.extend(sequence, 64);
    expect([sequence.pageLists.pages, sequence.length]).toEqual([[1], 64]);
    await cache.extend(sequence, 65);
    await cache.extend(sequence, 3); // never shrinks
    expect([sequence.pageLists.pages, sequence.length, cache.availablePages]).toEqual([[1, 2], 65, 1]);
    expect(cache.open(65)).toBeUndefined();
    await cache.extend(sequence, 256); // the reserved pages hold more than was asked for
    await expect(cache.extend(sequence, 257)).rejects.toThrow(/4 pages grows beyond its reservation/);
    sequence[Symbol.dispose]();
    sequence[Symbol.dispose]();
    expect(cache.availablePages).toBe(5);
  });

  it('reserves less than the most if asked to, and gives further pages while there are any', async () => {
    using cache = open(5);
    const [a, b] = [cache.open(320, 64)!, cache.open(320, 100)!];
    expect(cache.availablePages).toBe(2);
    expect(await cache.extend(a, 192)).toBe(true); // one reserved, two that were free
    expect(cache.availablePages).toBe(0);
    expect(await cache.extend(a, 193)).toBe(false);
    expect(a.length).toBe(192);
    expect(await cache.extend(b, 128)).toBe(true); // what is reserved stays reserved
    expect(cache.open(1)).toBeUndefined();
    b[Symbol.dispose]();
    expect(await cache.extend(a, 320)).toBe(true);
    a[Symbol.dispose]();
    expect(cache.availablePages).toBe(5);
  });

  it('clears new pages and the null page, because a masked NaN would still spread', async () => {
    const device = createReferenceDevice();
    using cache = open(3, device);
    const bytes = encode('f32', new Float32Array(4 * PAGE_POSITIONS * SHAPE.columns).fill(NaN));
    for (const tensor of tensorsOf(cache)) await device.write(tensor, 0, bytes);
    const sequence = cache.open(65)!;
    await cache.extend(sequence, 65);
    for (const tensor of tensorsOf(cache)) {
      const numbers = await readPages(device, tensor);
      for (const page of [NULL_PAGE, ...sequence.pageLists.pages]) expect(numbers[page]!.every((value) => value === 0)).toBe(true);
      expect(numbers[3]!.every(Number.isNaN)).toBe(true);
    }
  });

  it.each([
    // length, pages shared, pages of its own at once
    [0, 0, 0],
    [1, 0, 1],
    [64, 1, 0],
    [100, 1, 1],
    [128, 2, 0],
    [130, 2, 1],
  ])('a fork at %i shares %i full pages and copies %i', async (length, shared, copied) => {
    const device = createReferenceDevice();
    using cache = open(8, device);
    const parent = cache.open(192)!;
    await cache.extend(parent, 130);
    await fill(device, cache, parent, range(0, 130), 0);
    const before = await contents(device, cache, parent);
    const child = (await cache.fork(parent, length, 192))!;
    expect(child.length).toBe(length);
    expect(child.pageLists.pages.slice(0, shared)).toEqual(parent.pageLists.pages.slice(0, shared));
    expect(child.pageLists.pages.length).toBe(shared + copied);
    expect(child.pageLists.pages.slice(shared).some((page) => parent.pageLists.pages.includes(page))).toBe(false);
    expect(await contents(device, cache, child)).toEqual(before.map((numbers) => numbers.slice(0, length)));
    await cache.extend(child, 192);
    await fill(device, cache, child, range(length, 192), 5000);
    expect(await contents(device, cache, parent)).toEqual(before);
    parent[Symbol.dispose]();
    expect((await contents(device, cache, child))[3]!.slice(0, length)).toEqual(before[3]!.slice(0, length));
    child[Symbol.dispose]();
    expect(cache.availablePages).toBe(8);
  });

  it('refuses forks beyond the parent, and has none without room', async () => {
    using cache = open(3);
    const parent = cache.open(128)!;
    await cache.extend(parent, 100);
    await expect(cache.fork(parent, 101, 128)).rejects.toThrow(/fork at 101, the sequence has 100 positions/);
    expect(await cache.fork(parent, 100, 256)).toBeUndefined();
    expect(cache.availablePages).toBe(1);
    const child = await cache.fork(parent, 100, 128);
    expect([child?.length, cache.availablePages]).toEqual([100, 0]);
  });

  it('frees its memory, and leaves none behind when there is too little', () => {
    const device = createReferenceDevice();
    const cache = open(3, device);
    for (const free of [cache, cache]) free[Symbol.dispose]();
    expect(device.memory().usedBytes).toBe(0);
    const small = createReferenceDevice({ memoryBytes: pageBytes(SHAPE, 2) });
    expect(() => open(3, small)).toThrow(MemoryError);
    expect(small.memory().usedBytes).toBe(0);
  });
});

/** A sequence as a naive model sees it: who may write which page, and what its reservation is worth. */
interface Shadow {
  readonly sequence: KvSequence;
  readonly limit: number;
  /** What each position must read, in the first tensor. */
  marks: number[];
}

describe('any order of open, extend, fork and dispose', () => {
  it.each([1, 2, 3, 4, 5, 6])('never has two writers on a page, loses no page, keeps every number (seed %i)', async (seed) => {
    const device = createReferenceDevice();
    const capacity = 12;
    using cache = open(capacity, device);
    const numbers = randomNumbers(seed, 4000).values();
    const below = (n: number): number => Math.floor(((numbers.next().value! + 1) / 2) * n);
    const live: Shadow[] = [];
    let mark = 0;
    const grow = async (shadow: Shadow, length: number): Promise<void> => {
      await cache.extend(shadow.sequence, length);
      const from = shadow.marks.length;
      await fill(device, cache, shadow.sequence, range(from, length), (mark += 10_000));
      shadow.marks = [...shadow.marks, ...range(from, length).map((position) => mark + position)];
    };
    const admit = (room: boolean, limit: number, marks: number[], sequence: KvSequence | undefined): void => {
      expect(sequence !== undefined).toBe(room);
      if (sequence) live.push({ sequence, limit, marks });
    };
    for (let step = 0; step < 120; step++) {
      const picked = live[below(live.length)];
      const action = below(4);
      if (action === 0 || !picked) {
        const limit = 1 + below(300);
        const room = pagesFor(limit) <= cache.availablePages;
        admit(room, limit, [], cache.open(limit));
      } else if (action === 1) {
        await grow(picked, Math.min(picked.limit, picked.marks.length + 1 + below(90)));
      } else if (action === 2) {
        const length = below(picked.marks.length + 1);
        const limit = length + below(150);
        const room = pagesFor(limit) - Math.floor(length / PAGE_POSITIONS) <= cache.availablePages;
        admit(room, limit, picked.marks.slice(0, length), await cache.fork(picked.sequence, length, limit));
      } else {
        live.splice(live.indexOf(picked), 1);
        for (const again of [picked, picked]) again.sequence[Symbol.dispose]();
      }
      expectConsistent(cache, live);
    }
    for (const { sequence, marks } of live) expect((await contents(device, cache, sequence))[0]).toEqual(marks);
    for (const { sequence } of live) sequence[Symbol.dispose]();
    expect(cache.availablePages).toBe(capacity);
  });
});

function expectConsistent(cache: KvCache, live: readonly Shadow[]): void {
  const holders = new Map<number, number>();
  for (const { sequence } of live) for (const page of sequence.pageLists.pages) holders.set(page, (holders.get(page) ?? 0) + 1);
  expect([...holders.keys()].every((page) => page > NULL_PAGE && page <= cache.capacityPages)).toBe(true);
  for (const { sequence } of live) {
    expect(sequence.pageLists.pages.length).toBe(pagesFor(sequence.length));
    // The page that is written to next must be its own.
    const partial = sequence.length % PAGE_POSITIONS > 0 ? [sequence.pageLists.pages.at(-1)!] : [];
    expect(partial.every((page) => holders.get(page) === 1)).toBe(true);
  }
  const promised = live.reduce((sum, { sequence, limit }) => sum + Math.max(0, pagesFor(limit) - sequence.pageLists.pages.length), 0);
  expect(cache.availablePages).toBe(cache.capacityPages - holders.size - promised);
}

async function readPages(device: Device, tensor: Tensor): Promise<Float32Array[]> {
  const bytes = new Uint8Array(tensor.byteLength);
  await device.read(tensor, 0, bytes);
  const pageLength = PAGE_POSITIONS * SHAPE.columns;
  const numbers = decode('f32', bytes);
  return Array.from({ length: numbers.length / pageLength }, (_, page) => numbers.subarray(page * pageLength, (page + 1) * pageLength));
}
