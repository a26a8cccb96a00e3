import { describe, expect, it } from 'vitest';
import { KvCache, type KvSequence } from '../../../src/kv/kv-cache.ts';
import { heldPages, layerGroups, pagesFor } from '../../../src/kv/layer-groups.ts';
import { NULL_PAGE, PAGE_POSITIONS, type Device } from '../../../src/tensor/device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { decode, encode, randomNumbers } from '../../helpers/tensors.ts';

const WINDOW = 100;
const CHUNK = 90;
const SHAPE = { windows: [Infinity, WINDOW, Infinity, WINDOW], columns: 2, type: 'f32', chunk: CHUNK } as const;

describe('layers in groups', () => {
  it('puts layers of one window together', () => {
    expect(layerGroups([64, Infinity, 64, 32])).toEqual([
      { window: 64, layers: [0, 2] },
      { window: Infinity, layers: [1] },
      { window: 32, layers: [3] },
    ]);
  });

  it.each([1, 2, 63, 64, 65, 100, 128, 1000])('counts the pages that a window of %i touches', (window) => {
    for (const chunk of [1, 2, 63, 64, 65, 300]) {
      // Every start of a chunk within two pages, by counting.
      const touched = Array.from({ length: 128 }, (_, i) => {
        const start = i + 2048;
        return new Set(Array.from({ length: window - 1 + chunk }, (_p, n) => Math.floor((start + 1 - window + n) / PAGE_POSITIONS))).size;
      });
      expect(heldPages(1e6, window, chunk)).toBe(Math.max(...touched));
      expect(heldPages(70, window, chunk)).toBe(Math.min(2, Math.max(...touched)));
    }
  });

  it('needs all pages without a window', () => expect(heldPages(1000, Infinity, 5)).toBe(16));
});

describe('a sequence longer than the window', () => {
  it('holds so many pages at most, and gives the others back', async () => {
    using cache = new KvCache(createReferenceDevice(), SHAPE, [10, 4]);
    expect([cache.shortage(640), cache.shortage(641)]).toEqual([undefined, { needed: 11, capacity: 10 }]);
    const sequence = cache.open(640)!;
    expect(cache.availablePages).toBe(0); // 4 pages are what the window holds at most
    for (let length = 50; length <= 640; length += length < 320 ? 90 : 1) {
      await cache.extend(sequence, length);
      sequence.slide();
      const slid = sequence.pageLists.windowPages!.get(WINDOW)!;
      const first = Math.max(0, Math.floor((length + 1 - WINDOW) / PAGE_POSITIONS));
      expect(slid.map((page) => page !== NULL_PAGE)).toEqual(Array.from({ length: pagesFor(length) }, (_, i) => i >= first));
    }
    expect(sequence.pageLists.pages).toEqual([1, 2, 3, 4, 5, 6, 7, 8, 9, 10]);
    expect(cache.availablePages).toBe(2); // it is at its end and will not take them again
    sequence[Symbol.dispose]();
    expect(cache.availablePages).toBe(14);
  });

  it('is forked within its window only', async () => {
    using cache = new KvCache(createReferenceDevice(), SHAPE, [30, 30]);
    const parent = cache.open(640)!;
    for (let length = 80; length <= 320; length += 80) {
      await cache.extend(parent, length);
      parent.slide();
    }
    const before = cache.availablePages;
    // Pages 0 to 2 are gone: position 290 sees 191 to 290, which begin in page 2, and position 291 begins in page 3.
    expect([100, 200, 290, 291, 320, 321].map((length) => parent.reaches(length))).toEqual([false, false, false, true, true, false]);
    // 5 of 30 pages of the layers that see everything, 2 of the others.
    expect([cache.shareOf([]), cache.shareOf([parent]), cache.shareOf([parent, parent])]).toEqual([0, 5 / 30, 10 / 30]);
    await expect(cache.fork(parent, 200, 640)).rejects.toThrow('fork at 200: page 1 is not in memory any more');
    expect(cache.availablePages).toBe(before);
    using child = (await cache.fork(parent, 320, 640))!;
    expect(child.pageLists.windowPages!.get(WINDOW)!.slice(0, 3)).toEqual([NULL_PAGE, NULL_PAGE, NULL_PAGE]);
  });
});

interface Shadow {
  readonly sequence: KvSequence;
  readonly limit: number;
  /** What each position must read. */
  marks: number[];
}

describe('any order of open, extend, slide, fork and dispose', () => {
  it.each([1, 2, 3, 4, 5, 6])('never runs out, loses no page, keeps every number that is seen (seed %i)', async (seed) => {
    const device = createReferenceDevice();
    using cache = new KvCache(device, SHAPE, [24, 14]);
    const numbers = randomNumbers(seed, 4000).values();
    const below = (n: number): number => Math.floor(((numbers.next().value! + 1) / 2) * n);
    const live: Shadow[] = [];
    let mark = 0;
    for (let step = 0; step < 300; step++) {
      const picked = live[below(live.length)];
      const action = below(5);
      if (action === 0 || !picked) {
        const limit = 1 + below(500);
        const sequence = cache.open(limit);
        if (sequence) live.push({ sequence, limit, marks: [] });
      } else if (action <= 2) {
        const from = picked.marks.length;
        const length = Math.min(picked.limit, from + 1 + below(CHUNK));
        await cache.extend(picked.sequence, length);
        mark += 10_000;
        for (let position = from; position < length; position++) picked.marks.push(mark + position);
        await fill(device, cache, picked, from);
        await expectSeen(device, cache, picked);
        picked.sequence.slide();
      } else if (action === 3) {
        const length = picked.marks.length;
        const limit = length + below(150);
        const sequence = await cache.fork(picked.sequence, length, limit);
        if (sequence) live.push({ sequence, limit: Math.max(limit, length), marks: [...picked.marks] });
      } else {
        live.splice(live.indexOf(picked), 1);
        for (const again of [picked, picked]) again.sequence[Symbol.dispose]();
      }
    }
    for (const shadow of live) await expectSeen(device, cache, shadow);
    for (const { sequence } of live) sequence[Symbol.dispose]();
    expect(cache.availablePages).toBe(24 + 14);
  });
});

const pagesOf = ({ pageLists }: KvSequence, layer: number): readonly number[] =>
  SHAPE.windows[layer] === WINDOW ? pageLists.windowPages!.get(WINDOW)! : pageLists.pages;

function offsetOf(sequence: KvSequence, layer: number, position: number): number {
  const page = pagesOf(sequence, layer)[Math.floor(position / PAGE_POSITIONS)]!;
  expect(page).not.toBe(NULL_PAGE);
  return 4 * SHAPE.columns * (page * PAGE_POSITIONS + (position % PAGE_POSITIONS));
}

async function fill(device: Device, cache: KvCache, { sequence, marks }: Shadow, from: number): Promise<void> {
  for (const [layer, { keys, values }] of cache.layers.entries()) {
    for (let position = from; position < marks.length; position++) {
      const row = encode('f32', new Float32Array(SHAPE.columns).fill(marks[position]! + 0.25 * layer));
      for (const tensor of [keys, values]) await device.write(tensor, offsetOf(sequence, layer, position), row);
    }
  }
}

/** What the next position sees: everything, or the window before it. */
async function expectSeen(device: Device, cache: KvCache, { sequence, marks }: Shadow): Promise<void> {
  for (const [layer, { keys, values }] of cache.layers.entries()) {
    const row = new Uint8Array(4 * SHAPE.columns);
    for (let position = Math.max(0, marks.length + 1 - SHAPE.windows[layer]!); position < marks.length; position++) {
      for (const tensor of [keys, values]) {
        await device.read(tensor, offsetOf(sequence, layer, position), row);
        expect(decode('f32', row)[0]).toBe(marks[position]! + 0.25 * layer);
      }
    }
  }
}
