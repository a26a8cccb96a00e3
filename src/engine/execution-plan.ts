import { heldPages, layerGroups, pageBytes, pagesFor } from '../kv/layer-groups.ts';
import { type Model, attentionWindows } from '../models/model.ts';
import { PAGE_POSITIONS } from '../tensor/device.ts';
import type { KvType } from '../tensor/dtype.ts';
import { MemoryError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
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
  /** Bytes that may be used in all. */
  readonly budgetBytes: number;
  /** Of those, what the program takes beside the model. Default 0. */
  readonly programBytes?: number | undefined;
  /** Buffers through which weights are read. Default 0. */
  readonly stagingBytes?: number | undefined;
  /** Positions of all sequences together that the cache must hold. Default: a question and its answer, and more as there is room. */
  readonly cachePositions?: number | undefined;
  /** Share of the past positions whose values tokens that decode use. Default 1. */
  readonly attnSparsity?: number | undefined;
  /** Whether the device reads the cache where it lies. Default false. */
  readonly pagedAttention?: boolean | undefined;
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
  /** Hidden states between layers. */
  readonly hidden: number;
  readonly logits: number;
  /** Intermediate results within a layer; an upper estimate. */
  readonly scratch: number;
  /** The program itself, where the budget counts it. */
  readonly program: number;
  readonly total: number;
}

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
  /** Of each group of layers that see the same positions, in the order of layerGroups. */
  readonly kvPages: readonly number[];
  /** Share of the past positions whose values tokens that decode use: those with the largest weights. */
  readonly attnSparsity: number;
  readonly weights: PlannedHomes;
  readonly bytes: PlanBytes;
}

/** Where weights rest. */
export interface PlannedHomes {
  /** Share of their bytes that stays in memory. */
  readonly share: number;
  /** Layers that the ring holds at a time; 0 where all stays. */
  readonly slots: number;
  /** Bytes that every sweep reads. */
  readonly streamedBytes: number;
}

/** 64 rows use the processor well: products are limited by arithmetic from about 32 rows on (docs/benchmarks.md). */
const DEFAULT_BATCH_SIZE = 64;
/** Enough tokens to keep products efficient, few enough that one long prompt does not set the peak. */
const DEFAULT_BATCH_TOKENS = 512;
/** Bounds the logits in memory: 128 rows of OPT's vocabulary are 26 MB. */
const HEAD_ROWS = 128;
/** Share of the memory left beside the weights that the cache may take unasked, if it holds one sequence. */
const KV_SHARE = 0.5;
/** Positions that the cache holds even if they take more than its share; models claim contexts of 100,000 and more, which rows of a table rarely use. */
const GOOD_POSITIONS = 4096;
/** Of a row of a table with its answer, when weights and cache compete for room. */
const ROW_POSITIONS = 512;
/** Pages of a short row: the block has as many rows as the cache holds of them, where weights pass through. */
const SHORT_ROW_PAGES = 2;
/** Chunks of 512 tokens of all micro-batches: 4096 tokens compute for longer than any disk reads. */
const MOST_CHUNKS = 8;
/** Share of the cache's room that hidden states of more chunks may take. */
const MOST_HIDDEN = 1 / 8;
/** Beyond 512 rows a sweep computes for longer than any disk reads. */
const MOST_BATCHES = 8;
/** Without so many it is no use: a question and its answer. Longer rows are refused one by one. */
const LEAST_POSITIONS = 1024;
/** Positions that a device gathers at a time where attention is not paged, and copies of them alive at once. */
const GATHERED_POSITIONS = 2048;
const GATHERED_COPIES = 4;

/** @throws {MemoryError} with the largest items and the settings that would fit */
export function createPlan(model: Model, options: PlanOptions): ExecutionPlan {
  const plan = planBlock(model, options, options.numGpuBatches ?? 1, 1);
  if (plan.weights.slots === 0) return plan;
  // Every row and every token more shares the reading of the weights.
  const rows = Math.min(...plan.kvPages) / SHORT_ROW_PAGES;
  const batches = options.numGpuBatches ?? Math.min(MOST_BATCHES, Math.ceil(rows / plan.gpuBatchSize));
  const chunkBytes = 4 * model.hiddenSize * plan.batchTokens * batches;
  const chunks = Math.min(Math.floor(MOST_CHUNKS / batches), Math.floor((plan.bytes.kv * MOST_HIDDEN) / chunkBytes));
  return batches > 1 || chunks > 1 ? planBlock(model, options, batches, Math.max(1, chunks)) : plan;
}

function planBlock(model: Model, options: PlanOptions, numGpuBatches: number, sweepChunks: number): ExecutionPlan {
  const gpuBatchSize = options.gpuBatchSize ?? DEFAULT_BATCH_SIZE;
  const batchTokens = Math.max(DEFAULT_BATCH_TOKENS, gpuBatchSize);
  const headRows = Math.min(HEAD_ROWS, batchTokens);
  const sizes = { gpuBatchSize, numGpuBatches, batchTokens, sweepChunks, headRows, kvType: options.kvType };
  const buffers = bufferBytes(model, sizes, options);
  const sequencePages = pagesFor(model.contextLength);
  const leastPages = leastCachePages(model, options.cachePositions);
  const goodPages = Math.max(leastPages, Math.min(sequencePages, pagesFor(GOOD_POSITIONS)));
  const pool = pagePools(model, sizes);
  const room = options.budgetBytes - totalOf(buffers);
  const blockPages = gpuBatchSize * numGpuBatches * Math.min(sequencePages, pagesFor(ROW_POSITIONS));
  const cache = { least: pool(leastPages).bytes, good: pool(goodPages).bytes, block: pool(Math.max(leastPages, blockPages)).bytes };
  const homes = weightHomes(options, room, cache);
  const fixed = { ...buffers, weights: homes.residentBytes, ring: homes.ringBytes };
  const leftBytes = options.budgetBytes - totalOf(fixed);
  const wantedPages = Math.max(leastPages, gpuBatchSize * numGpuBatches * sequencePages);
  const most = (bytes: number): number => largest(wantedPages, (pages) => pool(pages).bytes <= bytes);
  // Other programs may want some of what is free; a budget that was set is there to be used, and what weights left over is the cache's.
  const isAutomatic = homes.slots > 0 && options.weightShare === undefined;
  const share = options.programBytes !== undefined || isAutomatic ? 1 : KV_SHARE;
  const pages = Math.min(most(leftBytes), Math.max(goodPages, most(leftBytes * share)));
  if (pages < leastPages) throw tooLarge(options, fixed, pool(leastPages).bytes);
  const { kvPages, bytes: kv } = pool(pages);
  const bytes = Object.freeze({ ...fixed, kv, total: totalOf(fixed) + kv });
  const weights = Object.freeze({ share: homes.share, slots: homes.slots, streamedBytes: homes.streamedBytes });
  return Object.freeze({ ...sizes, kvPages, attnSparsity: options.attnSparsity ?? 1, weights, bytes });
}

/** What decides the size of everything but the weights. */
export type PlanSizes = Pick<ExecutionPlan, 'gpuBatchSize' | 'numGpuBatches' | 'batchTokens' | 'sweepChunks' | 'headRows' | 'kvType'>;

/** Bytes of what is neither weights nor cache. */
export function bufferBytes(
  model: Model,
  { batchTokens, sweepChunks, numGpuBatches, headRows }: PlanSizes,
  { stagingBytes = 0, programBytes = 0, pagedAttention }: Pick<PlanOptions, 'stagingBytes' | 'programBytes' | 'pagedAttention'>,
): Pick<PlanBytes, 'hidden' | 'logits' | 'scratch' | 'staging' | 'program'> {
  return {
    hidden: 4 * model.hiddenSize * batchTokens * numGpuBatches * sweepChunks,
    logits: 4 * model.vocabularySize * headRows,
    scratch: 4 * Math.max(layerElements(model, batchTokens, pagedAttention), headRows * (model.vocabularySize + 2 * model.hiddenSize)),
    staging: stagingBytes,
    program: programBytes,
  };
}

/** Pages that layers which see everything must have. */
export function leastCachePages(model: Model, cachePositions: number | undefined): number {
  return cachePositions === undefined ? pagesFor(Math.min(model.contextLength, LEAST_POSITIONS)) : pagesFor(cachePositions);
}

export const totalOf = (items: Readonly<Record<string, number>>): number => Object.values(items).reduce((a, b) => a + b, 0);

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

/** Bytes of a cache with so many pages in each group of layers, null pages included. */
export function cacheBytes(model: Model, kvType: KvType, kvPages: readonly number[]): number {
  const columns = model.kvHeads * model.headDim;
  return layerGroups(attentionWindows(model)).reduce(
    (sum, { layers }, i) => sum + (kvPages[i]! + 1) * pageBytes({ columns, type: kvType }, layers.length),
    0,
  );
}

/**
 * The pages of each group of layers when those that see everything have `pages`, and the bytes of all. A group with a window never needs
 * more than all sequences hold at most of it; it gets no less for the case that rows are shorter than the window.
 */
export function pagePools(model: Model, sizes: PlanSizes): (pages: number) => { kvPages: readonly number[]; bytes: number } {
  const sequences = sizes.gpuBatchSize * sizes.numGpuBatches;
  const mostPages = layerGroups(attentionWindows(model)).map(
    ({ window }) => sequences * heldPages(model.contextLength, window, sizes.batchTokens * sizes.sweepChunks),
  );
  return (pages) => {
    const kvPages = Object.freeze(mostPages.map((most) => Math.min(pages, most)));
    return { kvPages, bytes: cacheBytes(model, sizes.kvType, kvPages) };
  };
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

/**
 * Numbers between the ops of a layer. On our kernels, results that are not needed at the same time share memory: 58 to 89 % of this was seen, for six
 * families. ggml takes more, and gathers keys and values.
 */
function layerElements(model: Model, tokens: number, pagedAttention: boolean | undefined): number {
  if (pagedAttention) return tokens * widest(model);
  return tokens * 2 * widest(model) + GATHERED_COPIES * GATHERED_POSITIONS * model.kvHeads * model.headDim;
}

/** Columns of all intermediate results of the widest layer, roughly: every matrix's output and the hidden state around it. */
function widest(model: Model): number {
  const widths = model.layers
    .slice(0, -1)
    .map(({ weights }) =>
      weights.reduce(
        (sum, { role, shape, rowsPerToken }) => (role === 'matrix' ? sum + (rowsPerToken ?? shape[0]!) : sum),
        3 * model.hiddenSize,
      ),
    );
  return Math.max(...widths);
}

function itemName(name: string, cachePositions = LEAST_POSITIONS): string {
  if (name === 'kv') return `KV cache of ${cachePositions} positions`;
  return name === 'ring' ? 'weights in passing' : name;
}

function tooLarge(options: PlanOptions, fixed: Omit<PlanBytes, 'kv' | 'total'>, kv: number): MemoryError {
  const needed = totalOf({ ...fixed, kv });
  const items = Object.entries({ ...fixed, kv })
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([name, bytes]) => `${itemName(name, options.cachePositions)} ${formatBytes(bytes)}`);
  return new MemoryError(
    `the model needs ${formatBytes(needed)}, ${formatBytes(options.budgetBytes)} may be used; largest: ${items.join(', ')}. ` +
      `A smaller --gpu-batch-size, --kv-type f16 or a smaller model would need less`,
    { needed, budgetBytes: options.budgetBytes, pagePositions: PAGE_POSITIONS },
  );
}
