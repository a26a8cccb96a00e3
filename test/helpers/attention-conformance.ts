import { expect, it } from 'vitest';
import { type Batch, type BatchRow, NULL_PAGE, PAGE_POSITIONS, type Program, type Tensor } from '../../src/tensor/device.ts';
import { blockElements, type KvType } from '../../src/tensor/dtype.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Bench } from './bench.ts';
import { naiveAttention, type NaiveHeads } from './naive-ops.ts';
import { differences, download, encode, randomNumbers, roundedTo, upload } from './tensors.ts';

interface Span {
  readonly start: number;
  readonly count: number;
  /** Number of leading pages that are those of the first row. */
  readonly shared?: number;
  /** Length of the row's prompt. */
  readonly prompt?: number;
}

const SPANS: Readonly<Record<string, readonly Span[]>> = {
  'decoding around page borders': [0, 1, 62, 63, 64, 65, 127, 128, 130].map((start) => ({ start, count: 1 })),
  'prompt chunks': [
    { start: 0, count: 1 },
    { start: 0, count: 64 },
    { start: 0, count: 65 },
    { start: 60, count: 10 },
    { start: 130, count: 31 },
  ],
  'decoding and chunks mixed': [
    { start: 63, count: 1 },
    { start: 0, count: 33 },
    { start: 130, count: 1 },
    { start: 60, count: 3 },
    { start: 64, count: 1 },
    { start: 65, count: 1 },
  ],
  'shared prefix pages': [
    { start: 70, count: 1 },
    { start: 64, count: 5, shared: 1 },
    { start: 128, count: 1, shared: 1 },
    { start: 3, count: 2 },
  ],
};

/** Decoding, the end of a prompt, and rows that are computed again. */
const SPARSE_SPANS: readonly Span[] = [
  { start: 63, count: 1, prompt: 63 },
  { start: 64, count: 1, prompt: 10 },
  { start: 130, count: 1, prompt: 131 },
  { start: 60, count: 10, prompt: 65 },
  { start: 0, count: 33, prompt: 5 },
  { start: 150, count: 31, prompt: 1 },
  { start: 70, count: 2 },
];

const HEADS: readonly Omit<NaiveHeads, 'scale'>[] = [
  { heads: 4, kvHeads: 4, headDim: 16 },
  { heads: 4, kvHeads: 2, headDim: 64 },
  { heads: 3, kvHeads: 1, headDim: 80 },
];

/** More than any of the cases needs. */
const PAGES = 24;
/** Contents of positions that no row has reached: must leave no trace in results. */
const GARBAGE = 7;

export function describeAttention(bench: Bench): void {
  const cases = Object.keys(SPANS).flatMap((spans) => HEADS.map((heads) => ({ spans, ...heads })));
  it.each(cases)('$spans, $heads heads on $kvHeads of $headDim, in every cache type', async ({ spans, heads, kvHeads, headDim }) => {
    for (const type of plainCaches(bench)) {
      const rows = placeRows(SPANS[spans]!);
      const fixture = await setUp(bench, { type, heads: { heads, kvHeads, headDim, scale: 0.7 / Math.sqrt(headDim) } }, rows);
      expect(await fixture.sweep(rows, 1)).toEqual([]);
    }
  });

  it.each(
    [
      { window: 1 },
      { window: 3 },
      { window: 64 },
      { window: 65 },
      { window: 1000 },
      { softcap: 0.25 },
      { window: 66, softcap: 0.5 },
    ].flatMap((options) => Object.keys(SPANS).map((spans) => ({ spans, options }))),
  )('$spans with $options', async ({ spans, options }) => {
    const rows = placeRows(SPANS[spans]!);
    const fixture = await setUp(bench, { type: 'f32', heads: { heads: 4, kvHeads: 2, headDim: 16, scale: 0.5, ...options } }, rows);
    expect(await fixture.sweep(rows, 1)).toEqual([]);
  });

  it('reads the mask of its window in a batch for several', async () => {
    const rows = placeRows(SPANS['decoding and chunks mixed']!);
    const windows = [5, Infinity, 70];
    for (const window of windows) {
      const heads = { heads: 2, kvHeads: 2, headDim: 16, scale: 0.5, window };
      const fixture = await setUp(bench, { type: 'f32', heads, windows }, rows);
      expect(await fixture.sweep(rows, 1)).toEqual([]);
    }
  });

  it('reads only those pages of a window that it still reaches', async () => {
    const window = 66;
    const rows = placeRows([...SPANS['decoding and chunks mixed']!, { start: 200, count: 1 }, { start: 190, count: 20 }]);
    const heads = { heads: 4, kvHeads: 2, headDim: 16, scale: 0.5, window };
    const fixture = await setUp(bench, { type: 'f32', heads, windows: [Infinity, window] }, rows);
    expect(await fixture.sweep(rows, 1, (row) => withWindowPages(row, window))).toEqual([]);
  });

  it.each([
    ...[0.001, 0.1, 0.5, 0.99].map((sparsity) => ({ sparsity, heads: { heads: 4, kvHeads: 2, headDim: 16 } })),
    ...HEADS.map((heads) => ({ sparsity: 0.3, heads })),
    { sparsity: 0.2, heads: { heads: 4, kvHeads: 2, headDim: 16, window: 66 } },
    { sparsity: 0.2, heads: { heads: 2, kvHeads: 2, headDim: 6, softcap: 0.5 } },
  ])('uses the values of a share of $sparsity with $heads, in every cache type, or refuses', async ({ sparsity, heads }) => {
    for (const type of plainCaches(bench)) {
      const rows = placeRows(SPARSE_SPANS);
      const fixture = await setUp(bench, { type, sparsity, heads: { ...heads, scale: 1.5 / Math.sqrt(heads.headDim) } }, rows);
      const outcome = await fixture.sweep(rows, 1).catch((error: unknown) => String(error));
      const refusal: unknown = expect.stringContaining('no sparse attention');
      expect(outcome).toEqual(bench.device().capabilities.sparseAttention ? [] : refusal);
    }
  });

  it('appends and attends over several sweeps, with a batch as long as its key stays', async () => {
    const heads = { heads: 2, kvHeads: 2, headDim: 16, scale: 0.25 };
    const starts = [61, 5, 126];
    const rowsAt = (sweep: number): BatchRow[] =>
      placeRows(
        starts.map((start) => ({ start: start + sweep, count: 1 })),
        starts.map(() => 3),
      );
    for (const type of plainCaches(bench)) {
      const fixture = await setUp(bench, { type, heads }, rowsAt(0));
      for (let sweep = 0; sweep < 5; sweep++) expect(await fixture.sweep(rowsAt(sweep), sweep + 1)).toEqual([]);
    }
  });
}

/** Cache types that store elements one by one; compressed-cache.test.ts has the others. */
const plainCaches = (bench: Bench): KvType[] => bench.device().capabilities.kv.filter((type) => blockElements(type) === 1);

/** Gives every row its pages, scattered and out of order; page 0 stays free. `pageCounts` are those needed unless told. */
function placeRows(spans: readonly Span[], pageCounts?: readonly number[]): BatchRow[] {
  // 7 has no factor in common with 23, so this visits every page from 1 to 23 once.
  const free = Array.from({ length: PAGES - 1 }, (_, i) => ((i * 7 + 11) % (PAGES - 1)) + 1);
  const rows: BatchRow[] = [];
  spans.forEach(({ start, count, shared = 0, prompt }, index) => {
    const needed = pageCounts?.[index] ?? Math.ceil((start + count) / PAGE_POSITIONS);
    const pages = [...(rows[0]?.pages.slice(0, shared) ?? []), ...free.splice(0, needed - shared)];
    rows.push({ tokens: new Int32Array(count), start, pages, ...(prompt !== undefined && { prompt }) });
  });
  return rows;
}

/** The row's pages as those of a window, without the ones it has left; layers without a window have others. */
function withWindowPages(row: BatchRow, window: number): BatchRow {
  const first = Math.floor((row.start + 1 - window) / PAGE_POSITIONS);
  const pages = row.pages.map((page, i) => (i < first ? NULL_PAGE : page));
  return { ...row, pages: row.pages.map(() => PAGES - 1), windowPages: new Map([[window, pages]]) };
}

interface Case {
  readonly type: KvType;
  readonly heads: NaiveHeads;
  readonly sparsity?: number;
  /** Of the batch. Default: the one of `heads`. */
  readonly windows?: readonly number[];
}

interface Fixture {
  /** Runs attention with new q, k and v, and describes what is wrong in the result and in the whole cache. The device sees the rows as `given`. */
  sweep(rows: readonly BatchRow[], seed: number, given?: (row: BatchRow) => BatchRow): Promise<string[]>;
}

async function setUp(
  bench: Bench,
  { type, heads, sparsity = 1, windows = [heads.window ?? Infinity] }: Case,
  rows: readonly BatchRow[],
): Promise<Fixture> {
  const { scope } = bench;
  const device = bench.device();
  const columns = heads.kvHeads * heads.headDim;
  const expected = { keys: cacheContents(type, rows, columns, 100), values: cacheContents(type, rows, columns, 200) };
  const shape = [PAGES * PAGE_POSITIONS, columns];
  const ordered = (what: 'keys' | 'values', contents: Floats): Floats =>
    device.capabilities.cacheOrder === 'heads' ? byHeads(what, contents, heads) : contents;
  const cache = {
    keys: await upload(device, scope, { name: 'keys', dtype: type, shape, values: ordered('keys', expected.keys) }),
    values: await upload(device, scope, { name: 'values', dtype: type, shape, values: ordered('values', expected.values) }),
  };
  const count = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  const qColumns = heads.heads * heads.headDim;
  const [q, k, v] = [qColumns, columns, columns].map((n) => scope.add(device.allocate('input', 'f32', [count, n]))) as [
    Tensor,
    Tensor,
    Tensor,
  ];
  const out = scope.add(device.allocate('out', 'f32', [count, qColumns]));
  const graph = new GraphBuilder('attention', count, { attnSparsity: sparsity });
  graph.store(graph.attention(graph.load(q), graph.load(k), graph.load(v), cache, heads), out);
  const source = graph.finish();
  let current: { batch: Batch; program: Program } | undefined;

  return {
    async sweep(swept, seed, given = (row) => row) {
      const written = swept.map(given);
      if (current?.batch.key !== device.batchKey(written, { windows })) {
        const batch = scope.add(device.createBatch(written, { windows }));
        current = { batch, program: scope.add(device.compile(source, batch)) };
      }
      await current.batch.write(written);
      const inputs = [q, k, v].map(({ shape: [, n] }, i) => randomNumbers(seed * 10 + i, count * n!)) as [Floats, Floats, Floats];
      for (const [i, tensor] of [q, k, v].entries()) await device.write(tensor, 0, encode('f32', inputs[i]!));
      await device.run(current.program);
      const wanted = naiveSweep(swept, inputs, expected, { type, heads, sparsity });
      const { f16Cache, exact } = bench.tolerance;
      return [
        ...differences(await download(device, out), wanted, type === 'f16' ? (f16Cache ?? exact) : exact, `${type} cache, sweep ${seed}`),
        ...differences(await download(device, cache.keys), ordered('keys', expected.keys), 0, 'keys'),
        ...differences(await download(device, cache.values), ordered('values', expected.values), 0, 'values'),
      ];
    },
  };
}

type Floats = Float32Array<ArrayBuffer>;

/** Appends to `expected` and returns the outputs. */
function naiveSweep(
  rows: readonly BatchRow[],
  [q, k, v]: [Floats, Floats, Floats],
  expected: { keys: Floats; values: Floats },
  { type, heads, sparsity = 1 }: Case,
) {
  const columns = heads.kvHeads * heads.headDim;
  const places = rows.flatMap((row) => Array.from(row.tokens, (_, i) => ({ row, position: row.start + i })));
  places.forEach(({ row, position }, token) => {
    const at = slotOf(row, position) * columns;
    expected.keys.set(roundedTo(type, k.subarray(token * columns, (token + 1) * columns)), at);
    expected.values.set(roundedTo(type, v.subarray(token * columns, (token + 1) * columns)), at);
  });
  return places.flatMap(({ row, position }, token) => {
    const slots = Array.from({ length: position + 1 }, (_, p) => slotOf(row, p) * columns);
    const visible = (contents: Floats): Floats[] => slots.map((at) => contents.subarray(at, at + columns));
    const width = heads.heads * heads.headDim;
    const { prompt = Infinity } = row;
    const options = { ...heads, sparsity: position < prompt ? 1 : sparsity };
    return naiveAttention(q.subarray(token * width, (token + 1) * width), visible(expected.keys), visible(expected.values), options);
  });
}

/** The contents of a cache in the order of devices that keep the positions of a head together. */
function byHeads(what: 'keys' | 'values', contents: Floats, { kvHeads, headDim }: NaiveHeads): Floats {
  const result = new Float32Array(contents.length);
  const pageElements = PAGE_POSITIONS * kvHeads * headDim;
  for (let at = 0; at < contents.length; at++) {
    const [page, inPage] = [Math.floor(at / pageElements), at % pageElements];
    const position = Math.floor(inPage / (kvHeads * headDim));
    const [head, element] = [Math.floor(inPage / headDim) % kvHeads, inPage % headDim];
    const inHead = what === 'keys' ? element * PAGE_POSITIONS + position : position * headDim + element;
    result[page * pageElements + head * PAGE_POSITIONS * headDim + inHead] = contents[at]!;
  }
  return result;
}

/** Random numbers where the rows have been, zeros in the null page, garbage elsewhere. */
function cacheContents(type: KvType, rows: readonly BatchRow[], columns: number, seed: number): Floats {
  const contents = new Float32Array(PAGES * PAGE_POSITIONS * columns).fill(GARBAGE);
  contents.fill(0, NULL_PAGE * PAGE_POSITIONS * columns, (NULL_PAGE + 1) * PAGE_POSITIONS * columns);
  rows.forEach((row, index) => {
    for (let position = 0; position < row.start; position++) {
      const numbers = randomNumbers(seed + index * 1000 + position, columns);
      contents.set(roundedTo(type, numbers), slotOf(row, position) * columns);
    }
  });
  return contents;
}

function slotOf({ pages }: BatchRow, position: number): number {
  return pages[Math.trunc(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);
}
