import { pagesFor } from '../kv/layer-groups.ts';
import type { Model } from '../models/model.ts';
import { RUNS_AT_ONCE } from '../tensor/attention-beside.ts';
import type { KvType } from '../tensor/dtype.ts';
import { MemoryError } from '../util/errors.ts';
import { bufferBytes } from './buffer-bytes.ts';
import { type CacheOnDisk, cachePools, type PlannedCache } from './cache-homes.ts';
import type { HostPlan } from './host-plan.ts';
import { totalOf } from './plan-items.ts';
import { diskTooSmall, LEAST_POSITIONS, noRoomBeside, tooLarge } from './plan-refusals.ts';
import { chooseHomes, homesOf, leastHomes, type PlaceWeights, type WeightHomesPlan } from './weight-homes.ts';

export interface PlanOptions {
  /** Sequences that the device computes together. Default 64. */
  readonly gpuBatchSize?: number | undefined;
  /** Micro-batches in flight. Default 1; where weights pass through, as many as the cache has room for. */
  readonly numGpuBatches?: number | undefined;
  readonly kvType: KvType;
  /** Bytes of the weights as they lie on the device. */
  readonly weightBytes: number;
  /** Where a share of the weights would lie. Without it, all of them stay in memory. */
  readonly placeWeights?: PlaceWeights | undefined;
  /** Share of the weights that stays in memory. Default: as much as there is room for. */
  readonly weightShare?: number | undefined;
  /** Bytes of the device's memory that may be used in all. */
  readonly budgetBytes: number;
  /** What messages call that memory. Default: nothing. */
  readonly memoryName?: string | undefined;
  /** Of those, what the program takes beside the model. Default 0. */
  readonly programBytes?: number | undefined;
  /** Buffers through which weights are read. Default 0. */
  readonly stagingBytes?: number | undefined;
  /** Positions of all sequences together that the cache must hold. Default: a question and its answer, and more as there is room. */
  readonly cachePositions?: number | undefined;
  /** All rows to come, as far as they are known, and positions of the longest: the cache needs no more room. Default: rows as long as the context, as many as the block has. */
  readonly rows?: { readonly count: number; readonly positions: number } | undefined;
  /** Log-probabilities that a row may want. Default 0. */
  readonly scores?: number | undefined;
  /** Bytes of RAM that the cache may take where it lies beside the device, whose attention the processor computes. Default: it lies in the device's memory. */
  readonly cacheBesideBytes?: number | undefined;
  /** Share of the cache that stays in memory; the rest is on disk. Default 1. */
  readonly cacheShare?: number | undefined;
  /** Share of the micro-batches whose hidden states stay in memory; those of the others are on disk. Default 1. */
  readonly hiddenShare?: number | undefined;
  /** Bytes that may be used on disk. Default: no limit. */
  readonly diskBytes?: number | undefined;
  /** Share of the past positions whose values tokens that decode use. Default 1. */
  readonly attnSparsity?: number | undefined;
  /** Whether the device reads the cache where it lies. Default false. */
  readonly pagedAttention?: boolean | undefined;
  /** Devices that are joined in this one: each has hidden states and intermediate results. Default 1. */
  readonly deviceCount?: number | undefined;
}

/** Where the memory goes, in bytes. */
export interface PlanBytes {
  /** Those that stay. */
  readonly weights: number;
  /** Slots for weights that are read anew for every sweep. */
  readonly ring: number;
  /** Buffers through which weights are read. */
  readonly staging: number;
  readonly kv: number;
  /** Slots for pages of the cache that are read from disk. */
  readonly staged: number;
  /** Hidden states between layers. */
  readonly hidden: number;
  readonly logits: number;
  /** Intermediate results within a layer; an upper estimate. */
  readonly scratch: number;
  /** The program itself, and log-probabilities of the rows in flight, where the budget counts them. */
  readonly program: number;
  readonly results: number;
  readonly total: number;
}

/** Those that follow from model, device and the plan's sizes. Those of the program and of its rows are others in every process. */
export const COMPUTED_BYTES = [
  'weights',
  'ring',
  'staging',
  'kv',
  'staged',
  'hidden',
  'logits',
  'scratch',
] as const satisfies readonly (keyof PlanBytes)[];

/** What runs and what it takes, fixed before anything is allocated. Plain data: can be printed, saved and compared. */
export interface ExecutionPlan {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  /** Most tokens of one micro-batch that the device computes at a time; longer prompts are cut into chunks. */
  readonly batchTokens: number;
  /** Such chunks of a micro-batch in one sweep, one after the other. */
  readonly sweepChunks: number;
  /** Positions that pass the head at a time. */
  readonly headRows: number;
  readonly kvType: KvType;
  /** Pages of the cache that stay in memory, of each group of layers that see the same positions, in the order of layerGroups. */
  readonly kvPages: readonly number[];
  /** What the cache has beside them; null where all of it stays in memory. */
  readonly kvDisk: CacheOnDisk | null;
  /** Micro-batches, each chunk of a sweep counted, whose hidden states rest on disk between two layers. */
  readonly hiddenOnDisk: number;
  /** Share of the past positions whose values tokens that decode use: those with the largest weights. */
  readonly attnSparsity: number;
  readonly weights: PlannedHomes;
  /** Of the memory of the device that computes. */
  readonly bytes: PlanBytes;
  /** RAM beside a GPU; missing where the device computes in RAM. */
  readonly host?: HostPlan;
}

/** Where weights rest. */
export interface PlannedHomes {
  /** Share of their bytes that stays in the device's memory. */
  readonly share: number;
  /** Layers that the ring holds at a time; 0 where all stays. */
  readonly slots: number;
  /** Bytes that every sweep reads from disk. */
  readonly streamedBytes: number;
}

/** 64 rows use the processor well: products are limited by arithmetic from about 32 rows on (docs/benchmarks.md). */
const DEFAULT_BATCH_SIZE = 64;
/** Enough tokens to keep products efficient, few enough that one long prompt does not set the peak. */
export const DEFAULT_BATCH_TOKENS = 512;
/** Bounds the logits in memory: 128 rows of OPT's vocabulary are 26 MB. */
const HEAD_ROWS = 128;
/** Share of the memory left beside the weights that the cache may take unasked, if it holds one sequence. */
const KV_SHARE = 0.5;
/** Positions that the cache holds even if they take more than its share; models claim contexts of 100,000 and more, which rows of a table rarely use. */
const GOOD_POSITIONS = 4096;
/** Of a row of a table with its answer, when weights and cache compete for room. */
const ROW_POSITIONS = 512;
/** Of the longest that are known: a beginning that is kept takes a quarter of the cache at most. */
const LEAST_ROWS = 4;
/** Pages of a short row: the block has as many rows as the cache holds of them, where weights pass through. */
const SHORT_ROW_PAGES = 2;
/** Chunks of 512 tokens of all micro-batches: 4096 tokens compute for longer than any disk reads. */
const MOST_CHUNKS = 8;
/** Share of the cache's room that hidden states of more chunks may take. */
const MOST_HIDDEN = 1 / 8;
/** Beyond 512 rows a sweep computes for longer than any disk reads. */
const MOST_BATCHES = 8;

/** Rows in flight that a plan may have. */
export const mostRows = ({
  gpuBatchSize = DEFAULT_BATCH_SIZE,
  numGpuBatches = MOST_BATCHES,
}: Pick<PlanOptions, 'gpuBatchSize' | 'numGpuBatches'>): number => gpuBatchSize * numGpuBatches;

/** @throws {MemoryError} with the largest items and the settings that would fit */
export function createPlan(model: Model, options: PlanOptions): ExecutionPlan {
  // Of two micro-batches one attends while the other one computes.
  const least = options.numGpuBatches ?? (options.cacheBesideBytes === undefined ? 1 : RUNS_AT_ONCE);
  const plan = planBlock(model, options, least, 1);
  if (plan.weights.slots === 0) return plan;
  const { numGpuBatches, sweepChunks } = largeBlock(
    model,
    options,
    options.rows ? planBlock(model, { ...options, rows: undefined }, least, 1) : plan,
  );
  if (numGpuBatches === least && sweepChunks === 1) return plan;
  try {
    return planBlock(model, options, numGpuBatches, sweepChunks);
  } catch (cause) {
    // Log-probabilities of so many rows may leave no room where those of fewer did.
    if (cause instanceof MemoryError) return plan;
    throw cause;
  }
}

/** Every row and every token more shares the reading of the weights. `plan` is that of the least block, whose cache has all the room there is. */
function largeBlock(model: Model, options: PlanOptions, plan: ExecutionPlan): Pick<ExecutionPlan, 'numGpuBatches' | 'sweepChunks'> {
  const { count, positions } = options.rows ?? { count: Infinity, positions: Infinity };
  const rows = Math.min(cachedPages(plan) / SHORT_ROW_PAGES, count);
  const states = hiddenRoom(model, plan, options);
  const most = options.cacheBesideBytes === undefined ? MOST_BATCHES : Math.min(MOST_BATCHES, states);
  const batches = options.numGpuBatches ?? Math.max(plan.numGpuBatches, Math.min(most, Math.ceil(rows / plan.gpuBatchSize)));
  const useful = Math.ceil((Math.min(count, plan.gpuBatchSize) * positions) / plan.batchTokens);
  const chunks = Math.min(Math.floor(MOST_CHUNKS / batches), Math.floor(states / batches), useful);
  return { numGpuBatches: batches, sweepChunks: Math.max(1, chunks) };
}

/** Hidden states that have room: in a share of the cache's, or, where the cache lies elsewhere, in what weights leave beside those of the plan. */
function hiddenRoom({ hiddenSize }: Model, { batchTokens, numGpuBatches, bytes }: ExecutionPlan, options: PlanOptions): number {
  const each = 4 * hiddenSize * batchTokens * (options.deviceCount ?? 1);
  if (options.cacheBesideBytes === undefined) return Math.floor((bytes.kv * MOST_HIDDEN) / each);
  return numGpuBatches + Math.floor((options.budgetBytes - bytes.total) / each);
}

function planBlock(model: Model, options: PlanOptions, numGpuBatches: number, sweepChunks: number): ExecutionPlan {
  const gpuBatchSize = options.gpuBatchSize ?? DEFAULT_BATCH_SIZE;
  const batchTokens = Math.max(DEFAULT_BATCH_TOKENS, gpuBatchSize);
  const headRows = Math.min(HEAD_ROWS, batchTokens);
  const hiddenOnDisk = Math.round((1 - (options.hiddenShare ?? 1)) * numGpuBatches * sweepChunks);
  const sizes = { gpuBatchSize, numGpuBatches, batchTokens, sweepChunks, headRows, kvType: options.kvType, hiddenOnDisk };
  const buffers = bufferBytes(model, sizes, options);
  const sequencePages = pagesFor(model.contextLength);
  const leastPages = leastCachePages(model, options.cachePositions);
  const goodPages = Math.max(leastPages, Math.min(sequencePages, pagesFor(GOOD_POSITIONS)));
  const pool = cachePools(model, sizes, options.cacheShare);
  const memory = (pages: number): number => memoryOf(pool(pages));
  const room = options.budgetBytes - totalOf(buffers);
  const onDisk = (options.cacheShare ?? 1) < 1;
  // On disk each micro-batch has a part of its own, which must hold any row alone.
  const { blockPages, fullPages } = blockRoom(sizes, { sequencePages, goodPages }, onDisk ? undefined : options.rows);
  const isBeside = options.cacheBesideBytes !== undefined;
  const inDevice = (pages: number): number => (isBeside ? 0 : memory(pages));
  const cache = { least: inDevice(leastPages), good: inDevice(goodPages), block: inDevice(Math.max(leastPages, blockPages)) };
  const homes = weightHomes(options, room, cache);
  const fixed = { ...buffers, weights: homes.residentBytes, ring: homes.ringBytes };
  const leftBytes = options.cacheBesideBytes ?? options.budgetBytes - totalOf(fixed);
  const wantedPages = onDisk && options.cachePositions !== undefined ? leastPages : Math.max(leastPages, onDisk ? blockPages : fullPages);
  const fits = (pages: number): boolean => (pool(pages).kvDisk?.bytes ?? 0) <= (options.diskBytes ?? Infinity);
  const most = (bytes: number): number => largest(wantedPages, (pages) => memory(pages) <= bytes && fits(pages));
  // Other programs may want some of what is free; a budget that was set is there to be used, and what weights left over is the cache's.
  const isAutomatic = homes.slots > 0 && options.weightShare === undefined;
  const share = options.programBytes !== undefined || isAutomatic || isBeside ? 1 : KV_SHARE;
  const pages = Math.min(most(leftBytes), Math.max(goodPages, most(leftBytes * share)));
  if (!fits(leastPages)) throw diskTooSmall(options, pool(leastPages).kvDisk!.bytes);
  if (isBeside && totalOf(fixed) > options.budgetBytes) throw tooLarge(options, fixed, 0);
  if (pages < leastPages) throw isBeside ? noRoomBeside(options, memory(leastPages)) : tooLarge(options, fixed, memory(leastPages));
  const { kvPages, kvDisk, kvBytes, stagedBytes } = pool(pages);
  const [kv, staged] = isBeside ? [0, 0] : [kvBytes, stagedBytes];
  const bytes = Object.freeze({ ...fixed, kv, staged, total: totalOf(fixed) + kv + staged });
  const weights = Object.freeze({ share: homes.share, slots: homes.slots, streamedBytes: homes.streamedBytes });
  const attnSparsity = options.attnSparsity ?? 1;
  return Object.freeze({ ...sizes, kvPages, kvDisk, attnSparsity, weights, bytes });
}

/**
 * Pages that a block can fill, and those that it is given before weights get any. Of rows that are known a row more than there are, for beginnings that are
 * kept; and room for longer ones all the same, since how long they are is an estimate.
 */
function blockRoom(
  { gpuBatchSize, numGpuBatches }: PlanSizes,
  { sequencePages, goodPages }: { readonly sequencePages: number; readonly goodPages: number },
  rows: PlanOptions['rows'],
): { readonly blockPages: number; readonly fullPages: number } {
  const most = gpuBatchSize * numGpuBatches;
  const blockPages = most * Math.min(sequencePages, pagesFor(ROW_POSITIONS));
  if (!rows) return { blockPages, fullPages: most * sequencePages };
  const known = Math.max(LEAST_ROWS, Math.min(most, rows.count) + 1) * Math.min(sequencePages, pagesFor(rows.positions));
  const fullPages = Math.max(goodPages, known);
  return { blockPages: Math.min(fullPages, Math.max(goodPages, blockPages)), fullPages };
}

/** Pages of the cache wherever they are, of the group of layers that has the fewest. */
function cachedPages({ kvPages, kvDisk, numGpuBatches }: ExecutionPlan): number {
  return Math.min(...kvPages.map((pages, i) => pages + numGpuBatches * (kvDisk?.bayPages[i] ?? 0)));
}

const memoryOf = ({ kvBytes, stagedBytes }: PlannedCache): number => kvBytes + stagedBytes;

/** What decides the size of everything but the weights. */
export type PlanSizes = Pick<
  ExecutionPlan,
  'gpuBatchSize' | 'numGpuBatches' | 'batchTokens' | 'sweepChunks' | 'headRows' | 'kvType' | 'hiddenOnDisk'
>;

/** Pages that layers which see everything must have. */
export function leastCachePages(model: Model, cachePositions: number | undefined): number {
  return cachePositions === undefined ? pagesFor(Math.min(model.contextLength, LEAST_POSITIONS)) : pagesFor(cachePositions);
}

/**
 * All weights stay where they fit beside a good cache. Otherwise the cache comes first, as far as the block could fill it: every further row shares the
 * reading of all weights, while a weight that stays saves its own reading alone. `cache`: bytes.
 */
function weightHomes(
  { weightBytes, placeWeights, weightShare }: PlanOptions,
  room: number,
  cache: { readonly least: number; readonly good: number; readonly block: number },
): WeightHomesPlan {
  const all = { share: 1, slots: 0, residentBytes: weightBytes, ringBytes: 0, streamedBytes: 0 };
  if (!placeWeights) return all;
  if (weightShare !== undefined) return homesOf(placeWeights, weightShare);
  const resident = homesOf(placeWeights, 1);
  if (resident.residentBytes + cache.good <= room) return resident;
  const least = leastHomes(placeWeights);
  const spare = room - least.residentBytes - least.ringBytes;
  return chooseHomes(placeWeights, room - Math.max(cache.least, Math.min(cache.block, spare)));
}

/** The largest whole number from 0 to `limit` that still holds; 0 if none does. */
function largest(limit: number, holds: (n: number) => boolean): number {
  let [low, high] = [0, limit];
  while (low < high) {
    const middle = Math.ceil((low + high) / 2);
    if (holds(middle)) low = middle;
    else high = middle - 1;
  }
  return low;
}
