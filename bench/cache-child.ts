/** JSON of a CacheCase: one token of every row is computed, again and again, over keys and values that are random numbers; prints what a sweep took. */
import { existsSync, readdirSync, readlinkSync } from 'node:fs';
import { Executor } from '../src/engine/executor.ts';
import { assembleMicroBatch, type MicroBatch } from '../src/engine/micro-batch.ts';
import { Sequence } from '../src/engine/sequence.ts';
import type { KvCache } from '../src/kv/kv-cache.ts';
import { diskPageBytes } from '../src/kv/kv-spill.ts';
import { openOffloaded } from '../src/llm/offloaded.ts';
import { openDevice } from '../src/llm/device.ts';
import { makePlan } from '../src/llm/make-plan.ts';
import { DEFAULT_PARAMS } from '../src/llm/params.ts';
import { dummyModelSource } from '../src/llm/model-source.ts';
import { type Device, PAGE_POSITIONS } from '../src/tensor/device.ts';
import { LaneLog } from '../src/util/lanes.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { peakMemoryBytes, processorFacts } from '../src/util/machine.ts';
import { WeightStore } from '../src/weights/weight-store.ts';
import type { CacheCase, CacheRun } from './cache-case.ts';
import { diskBytesRead, dropPageCache, readSeconds } from './disk.ts';

const one = JSON.parse(process.argv[2]!) as CacheCase;

/** Of f16, from 0.06 to 0.12, with either sign. */
function randomHalves(bytes: number): Uint8Array {
  const halves = new Uint16Array(bytes / 2);
  for (let i = 0; i < halves.length; i++) halves[i] = 0x2c00 | ((i * 40_503) & 0x83ff);
  return new Uint8Array(halves.buffer);
}

/** A row whose first positions are on disk, as if they had been computed. */
async function fillRow(device: Device, cache: KvCache, row: number, bay: number, page: Uint8Array): Promise<Sequence> {
  const { positions } = one;
  const tokens = Int32Array.from({ length: positions + 1 }, (_, i) => 4 + ((i * 7919 + row) % 2000));
  const kv = cache.open(positions + 2, undefined, bay)!;
  for (let end = PAGE_POSITIONS; end <= positions; end += PAGE_POSITIONS) {
    if (!(await cache.extend(kv, end))) throw new Error('the cache is too small');
    const offset = kv.pageLists.pages.at(-1)! * page.byteLength;
    for (const { keys, values } of cache.layers) for (const tensor of [keys, values]) await device.write(tensor, offset, page);
    cache.store(kv);
    await cache.spill!.flush();
  }
  await cache.extend(kv, positions + 1);
  const sequence = new Sequence(
    { id: row, key: row, tokens, sampling: { ...DEFAULT_PARAMS, maxTokens: 1 }, stopIds: new Set() },
    kv,
    positions + 2,
  );
  sequence.computed = sequence.furthest = positions;
  return sequence;
}

/** Bytes a second of the disk alone, over the cache's own file: where its pages lie is part of what the disk can do. */
async function diskRate(): Promise<number> {
  dropPageCache();
  const before = diskBytesRead();
  const seconds = await readSeconds(spillPath());
  return (diskBytesRead() - before) / seconds; // pages that were never written are not read
}

/** The file has no name any more, but is open. */
function spillPath(): string {
  const open = readdirSync('/proc/self/fd').map((fd) => `/proc/self/fd/${fd}`);
  const found = open.find((path) => existsSync(path) && readlinkSync(path).startsWith(one.folder));
  if (found === undefined) throw new Error(`no open file of ${one.folder}`);
  return found;
}

async function main(): Promise<CacheRun> {
  await using lifetime = new Lifetime();
  const { threads } = processorFacts();
  const { model, weights: source } = dummyModelSource(one.shape, 'f16');
  const device = lifetime.use(await openDevice('cpu', { threads, exact: false }));
  const weights = lifetime.use(new WeightStore(device, model, source, { compute: 'auto' }));
  const settings = {
    compute: 'auto',
    gpuBatchSize: one.rows / one.batches,
    numGpuBatches: one.batches,
    percent: [0, 100, 0, 0, 0, 100],
    cachePositions: one.rows * (one.positions + PAGE_POSITIONS),
  } as const;
  const plan = makePlan({ model, device, weights }, settings);
  const offloaded = await openOffloaded({ device, model, plan, lanes: new LaneLog(), lifetime }, { offloadFolder: one.folder });
  const { cache } = offloaded;
  const executor = lifetime.use(new Executor({ device, model, weights, ...offloaded, plan }));
  weights.start();
  await weights.loaded();
  const pageBytes = diskPageBytes({ type: plan.kvType, columns: model.kvHeads * model.headDim });
  const page = randomHalves(pageBytes);
  const microBatches: MicroBatch[] = [];
  for (let bay = 0; bay < one.batches; bay++) {
    const sequences = [];
    for (let row = 0; row < settings.gpuBatchSize; row++) sequences.push(await fillRow(device, cache, row, bay, page));
    microBatches.push(
      assembleMicroBatch(
        sequences,
        sequences.map(() => 1),
      ),
    );
  }
  // Programs are compiled, memory is touched.
  await executor.sweep(microBatches, async () => {});
  const [seconds, diskRates]: [number[], number[]] = [[], [await diskRate()]];
  let read = 0;
  for (let sweep = 0; sweep < one.sweeps; sweep++) {
    const [bytes, began] = [diskBytesRead(), performance.now()];
    await executor.sweep(microBatches, async () => {});
    seconds.push((performance.now() - began) / 1000);
    read += diskBytesRead() - bytes;
    diskRates.push(await diskRate());
  }
  return {
    cacheBytes: (one.rows * one.positions * cache.layers.length * 2 * pageBytes) / PAGE_POSITIONS,
    seconds,
    diskBytes: read,
    diskRates,
    peakBytes: peakMemoryBytes(),
    plannedBytes: plan.bytes.total,
  };
}

console.log(JSON.stringify(await main()));
