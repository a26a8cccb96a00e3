/** Jobs whose weights pass through memory, beside the disk's own rate and beside the same job with all weights in memory. Disk bytes are the system's count. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { byteLengthOf, type KvType, type WeightType } from '../src/tensor/dtype.ts';
import { UsageError } from '../src/util/errors.ts';
import { runChild } from './child.ts';
import { dropPageCache } from './disk.ts';
import type { CacheCase, CacheRun } from './cache-case.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { writeModelFile } from './model-file.ts';
import { decodeSweeps, type OffloadCase, type OffloadRun, projectedRate, secondsOf } from './offload-case.ts';

/** 13 GB in f16: more than most laptops have free. */
const DISK_BOUND = 'opt-6.7b';
/** 196 KB of keys and values in f16 for each position of a row. */
const CACHE_BOUND = 'opt-1.3b';
/** 4.7 GB in q4_0. */
const COMPUTE_BOUND = 'llama-3-8b';
/** The first sweep computes the prompts, these decode; the rest of a job is projected from them. */
const DECODE_SWEEPS = 6;
/** Rows of a micro-batch: their prompts of 32 tokens pass in one sweep. */
const BATCH_ROWS = 16;
const ON_DISK = [0, 0, 0, 100, 0, 100];
const SMALL_MEMORY = 4 * 2 ** 30;
/** Two seconds of a fast disk. */
const ALONE_BYTES = 4 * 2 ** 30;
/** Tokens of a row where the disk is what is measured. */
const SHORT_ROWS = { promptTokens: 32, generated: 32 };
/** Rows that the compute-bound job has at a time. */
const MANY_ROWS = 512;

type Emit = (what: string, unit: string, values: readonly number[], limit?: number) => Figure;

/** `models` are shapes: `opt-6.7b` asks the questions of the disk, `opt-1.3b` those of a cache on disk, `llama-3-8b` those of the processor. */
export async function* offload({
  rounds,
  models = [DISK_BOUND, CACHE_BOUND, COMPUTE_BOUND],
}: BenchOptions): AsyncGenerator<Figure, void, void> {
  if (!dropPageCache()) throw new UsageError('offload: the page cache cannot be dropped here; it needs Linux and root');
  for (const shape of models) {
    if (shape === CACHE_BOUND) yield* cacheOnDisk(rounds);
    else if (shape === COMPUTE_BOUND) yield* withFile(shape, 'q4_0', (file, make) => computeBound(file, make, rounds));
    else
      yield* withFile(shape, 'f16', async function* (file, make) {
        yield* diskBound(file, make, rounds);
        yield* smallMemory(file, make, rounds);
      });
  }
}

async function* withFile(
  shape: string,
  type: WeightType,
  measure: (file: string, make: Emit) => AsyncGenerator<Figure, void, void>,
): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const file = join(folder, 'model.gguf');
    await writeModelFile({ shape, type }, file);
    yield* measure(file, (what, unit, values, limit) =>
      figure({ bench: 'offload', case: `${shape} ${type} ${what}`, unit, values, ...(limit !== undefined && { limit }) }),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function run(one: OffloadCase): Promise<OffloadRun> {
  dropPageCache();
  return runChild<OffloadRun>('offload-child.ts', [JSON.stringify(one)]);
}

/** All weights on disk, few rows: nothing but the disk should matter. */
async function* diskBound(file: string, make: Emit, rounds: number): AsyncGenerator<Figure, void, void> {
  const runs: OffloadRun[] = [];
  const job = { file, rows: BATCH_ROWS, ...SHORT_ROWS, decodeSweeps: DECODE_SWEEPS, percent: ON_DISK, memoryBytes: SMALL_MEMORY };
  for (let round = 0; round < rounds; round++) runs.push(await run({ ...job, diskAloneBytes: ALONE_BYTES }));
  const label = `all on disk, ${BATCH_ROWS} rows`;
  const readings = runs
    .flatMap(decodeSweeps)
    .map(({ diskBytes, seconds, diskAlone }) => ({ rate: diskBytes / seconds, alone: diskAlone! }));
  yield* diskFigures((what, ...values) => make(`${label}: ${what}`, ...values), readings);
  yield* memoryFigures(make, label, runs);
}

/** What a sweep read a second, and what the disk alone did right before and right behind it. */
interface Reading {
  readonly rate: number;
  readonly alone: readonly [number, number];
}

/** What the disk can do changes within a minute: that of a sweep is between what it did before and behind. */
function* diskFigures(make: Emit, readings: readonly Reading[]): Generator<Figure, void, void> {
  const rates = readings.map(({ rate }) => rate);
  const limits = readings.map(({ alone: [before, behind] }) => (before + behind) / 2);
  yield make('the disk alone', 'GB/s', limits.map(gigabytes));
  yield make('read', 'GB/s', rates.map(gigabytes));
  yield make(
    'read over the disk alone',
    'x',
    rates.map((rate, at) => rate / limits[at]!),
  );
}

/** A third of the weights' size as memory: the largest block that fits, against one row at a time. */
async function* smallMemory(file: string, make: Emit, rounds: number): AsyncGenerator<Figure, void, void> {
  for (const [kvType, most] of [
    ['f16', 128],
    ['g4', 512],
  ] as const) {
    const runs: { one: OffloadRun; many: OffloadRun }[] = [];
    for (let round = 0; round < rounds; round++)
      runs.push({ one: await inSmallMemory(file, kvType, 1), many: await inSmallMemory(file, kvType, most) });
    yield* smallMemoryFigures(make, `4 GiB, ${kvType} cache`, runs);
  }
  const ratio = byteLengthOf('f16', 4096) / byteLengthOf('g4', 4096);
  yield make('rows of a g4 cache in the bytes of f16', 'x', [ratio]);
}

function inSmallMemory(file: string, kvType: KvType, rows: number): Promise<OffloadRun> {
  const batches = Math.ceil(rows / BATCH_ROWS);
  return run({ file, rows, batches, ...SHORT_ROWS, decodeSweeps: DECODE_SWEEPS, memoryBytes: SMALL_MEMORY, kvType });
}

function* smallMemoryFigures(
  make: Emit,
  label: string,
  runs: readonly { one: OffloadRun; many: OffloadRun }[],
): Generator<Figure, void, void> {
  const rateOf = (each: OffloadRun, rows: number): number => projectedRate(each, rows, SHORT_ROWS.promptTokens, SHORT_ROWS.generated);
  const many = runs.map((each) => each.many);
  const rates = many.map((each) => rateOf(each, each.rows));
  const busy = (lane: string): number[] => many.map(({ lanes, totalSeconds }) => (lanes[lane] ?? 0) / totalSeconds);
  yield make(`${label}: rows of the best block`, 'rows', [many[0]!.rows]);
  yield make(`${label}: projected to 32 + 32 tokens`, 'tokens/s', rates);
  yield make(
    `${label}: projected, over one row at a time`,
    'x',
    runs.map(({ one }, at) => rates[at]! / rateOf(one, 1)),
  );
  yield make(`${label}: compute busy`, 'x', busy('compute'));
  yield make(`${label}: disk busy`, 'x', busy('disk read'));
  yield* memoryFigures(make, label, many);
}

/** A quarter of the weights stays; hundreds of rows share each reading of the rest. */
async function* computeBound(file: string, make: Emit, rounds: number): AsyncGenerator<Figure, void, void> {
  const job = { file, rows: MANY_ROWS, promptTokens: 8, generated: 8 };
  const runs: { resident: OffloadRun; streamed: OffloadRun; apart: OffloadRun }[] = [];
  for (let round = 0; round < rounds; round++) {
    const streamed = await run({ ...job, percent: [0, 25, 0, 100, 0, 100] });
    const resident = await run({ ...job, percent: [0, 100, 0, 100, 0, 100] });
    const apart = await run({ ...job, percent: [0, 25, 0, 100, 0, 100], overlap: false });
    runs.push({ resident, streamed, apart });
  }
  const label = `25 % stay, ${MANY_ROWS} rows of 8 + 8 tokens`;
  const seconds = (which: 'resident' | 'streamed'): number[] => runs.map((each) => secondsOf(each[which]));
  yield make(`${label}: all in memory`, 's', seconds('resident'));
  yield make(label, 's', seconds('streamed'));
  yield make(
    `${label}: speed over all in memory`,
    'x',
    runs.map(({ resident, streamed }) => secondsOf(resident) / secondsOf(streamed)),
  );
  yield make(
    `${label}: time over the longest lane without overlap`,
    'x',
    runs.map(({ streamed, apart }) => streamed.totalSeconds / Math.max(...Object.values(apart.lanes))),
  );
  yield make(
    `${label}: event loop busy`,
    'x',
    runs.map(({ streamed }) => streamed.loop),
  );
  yield* memoryFigures(
    make,
    label,
    runs.map(({ streamed }) => streamed),
  );
}

/** All keys and values on disk: what sweeps of decoding rows read, beside the disk alone. */
async function* cacheOnDisk(rounds: number): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const one: CacheCase = { shape: CACHE_BOUND, rows: 64, batches: 4, positions: 1024, sweeps: 3, folder };
    const runs: CacheRun[] = [];
    for (let round = 0; round < rounds; round++) runs.push(await runChild<CacheRun>('cache-child.ts', [JSON.stringify(one)]));
    yield* cacheFigures(`${CACHE_BOUND} f16, cache on disk, 64 x 1024`, runs);
  } finally {
    await rm(folder, { recursive: true });
  }
}

function* cacheFigures(label: string, runs: readonly CacheRun[]): Generator<Figure, void, void> {
  const make = (what: string, unit: string, values: readonly number[], limit?: number): Figure =>
    figure({ bench: 'offload', case: `${label}: ${what}`, unit, values, ...(limit !== undefined && { limit }) });
  const readings = runs.flatMap(({ cacheBytes, seconds, diskRates }) =>
    seconds.map((each, at): Reading => ({ rate: cacheBytes / each, alone: [diskRates[at]!, diskRates[at + 1]!] })),
  );
  yield* diskFigures(make, readings);
  yield make(
    'bytes that the system counted, over those of the cache',
    'x',
    runs.map(({ diskBytes, cacheBytes, seconds }) => diskBytes / (cacheBytes * seconds.length)),
  );
  yield make(
    'peak memory',
    'GB',
    runs.map(({ peakBytes }) => gigabytes(peakBytes)),
    gigabytes(runs[0]!.plannedBytes),
  );
}

function* memoryFigures(make: Emit, label: string, runs: readonly OffloadRun[]): Generator<Figure, void, void> {
  yield make(
    `${label}: peak memory`,
    'GB',
    runs.map(({ peakBytes }) => gigabytes(peakBytes)),
    gigabytes(runs[0]!.planned.total),
  );
}

const gigabytes = (bytes: number): number => bytes / 1e9;
