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
  /** Micro-batches in flight. Default 1. */
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
  /** Most tokens of one micro-batch in one sweep; longer prompts are cut into chunks. */
  readonly batchTokens: number;
  /** Positions that pass the head at a time. */
  readonly headRows: number;
  readonly kvType: KvType;
  /** Of each group of layers that see the same positions, in the order of layerGroups. */
  readonly kvPages: readonly number[];
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
/** Without so many it is no use: a question and its answer. Longer rows are refused one by one. */
const LEAST_POSITIONS = 1024;
/** Positions that a device gathers at a time where attention is not paged, and copies of them alive at once. */
const GATHERED_POSITIONS = 2048;
const GATHERED_COPIES = 4;

/** @throws {MemoryError} with the largest items and the settings that would fit */
export function createPlan(model: Model, options: PlanOptions): ExecutionPlan {
  const gpuBatchSize = options.gpuBatchSize ?? DEFAULT_BATCH_SIZE;
  const numGpuBatches = options.numGpuBatches ?? 1;
  const batchTokens = Math.max(DEFAULT_BATCH_TOKENS, gpuBatchSize);
  const headRows = Math.min(HEAD_ROWS, batchTokens);
  const columns = model.kvHeads * model.headDim;
  const buffers = {
    hidden: 4 * model.hiddenSize * batchTokens * numGpuBatches,
    logits: 4 * model.vocabularySize * headRows,
    scratch: 4 * Math.max(layerElements(model, batchTokens, options), headRows * (model.vocabularySize + 2 * model.hiddenSize)),
    staging: options.stagingBytes ?? 0,
    program: options.programBytes ?? 0,
  };
  const sequencePages = pagesFor(model.contextLength);
  const leastPages = Math.min(sequencePages, pagesFor(LEAST_POSITIONS));
  const goodPages = Math.min(sequencePages, pagesFor(GOOD_POSITIONS));
  const pool = pagePools(model, { columns, type: options.kvType, chunk: batchTokens, sequences: gpuBatchSize * numGpuBatches });
  const room = options.budgetBytes - totalOf(buffers);
  const homes = weightHomes(options, room, { least: pool(leastPages).bytes, good: pool(goodPages).bytes });
  const fixed = { ...buffers, weights: homes.residentBytes, ring: homes.ringBytes };
  const leftBytes = options.budgetBytes - totalOf(fixed);
  const wantedPages = gpuBatchSize * numGpuBatches * sequencePages;
  const most = (bytes: number): number => largest(wantedPages, (pages) => pool(pages).bytes <= bytes);
  // What is left beside weights that pass through is the cache's; otherwise other programs may want some of it.
  const share = homes.slots > 0 && options.weightShare === undefined ? 1 : KV_SHARE;
  const pages = Math.min(most(leftBytes), Math.max(goodPages, most(leftBytes * share)));
  if (pages < leastPages) throw tooLarge(options, fixed, pool(leastPages).bytes);
  const { kvPages, bytes: kv } = pool(pages);
  const bytes = Object.freeze({ ...fixed, kv, total: totalOf(fixed) + kv });
  const weights = Object.freeze({ share: homes.share, slots: homes.slots, streamedBytes: homes.streamedBytes });
  return Object.freeze({ gpuBatchSize, numGpuBatches, batchTokens, headRows, kvType: options.kvType, kvPages, weights, bytes });
}

const totalOf = (items: Readonly<Record<string, number>>): number => Object.values(items).reduce((a, b) => a + b, 0);

/**
 * All weights stay where they fit beside a good cache. Otherwise half of the room beyond the least ring and the least cache is the cache's: more rows at a
 * time share one reading of the weights, which pays more than keeping some of them. `cache`: bytes.
 */
function weightHomes(
  { weightBytes, placeWeights, weightShare }: PlanOptions,
  room: number,
  cache: { readonly least: number; readonly good: number },
): WeightHomesPlan {
  const all = { share: 1, slots: 0, residentBytes: weightBytes, ringBytes: 0, streamedBytes: 0 };
  if (!placeWeights) return all;
  if (weightShare !== undefined) return homesOf(placeWeights, weightShare);
  const resident = homesOf(placeWeights, 1);
  if (resident.residentBytes + cache.good <= room) return resident;
  const least = leastHomes(placeWeights);
  const spare = Math.max(0, room - cache.least - least.residentBytes - least.ringBytes);
  return chooseHomes(placeWeights, room - cache.least - spare * KV_SHARE);
}

/**
 * The pages of each group of layers when those that see everything have `pages`, and the bytes of all, null pages included. A group with a
 * window never needs more than all sequences hold at most of it; it gets no less for the case that rows are shorter than the window.
 */
function pagePools(
  model: Model,
  shape: { columns: number; type: KvType; chunk: number; sequences: number },
): (pages: number) => { kvPages: readonly number[]; bytes: number } {
  const groups = layerGroups(attentionWindows(model)).map(({ window, layers }) => ({
    pageBytes: pageBytes(shape, layers.length),
    mostPages: shape.sequences * heldPages(model.contextLength, window, shape.chunk),
  }));
  return (pages) => {
    const kvPages = groups.map(({ mostPages }) => Math.min(pages, mostPages));
    return { kvPages: Object.freeze(kvPages), bytes: groups.reduce((sum, group, i) => sum + (kvPages[i]! + 1) * group.pageBytes, 0) };
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
 * Numbers between the ops of a layer. On our kernels, results that are not needed at the same time share memory: 62 to 83 % of this was seen, for six
 * families. ggml takes more, and gathers keys and values.
 */
function layerElements(model: Model, tokens: number, { pagedAttention }: PlanOptions): number {
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

const ITEM_NAMES: Readonly<Partial<Record<string, string>>> = {
  kv: `KV cache of ${LEAST_POSITIONS} positions`,
  ring: 'weights in passing',
};

function tooLarge(options: PlanOptions, fixed: Omit<PlanBytes, 'kv' | 'total'>, kv: number): MemoryError {
  const needed = totalOf({ ...fixed, kv });
  const items = Object.entries({ ...fixed, kv })
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([name, bytes]) => `${ITEM_NAMES[name] ?? name} ${formatBytes(bytes)}`);
  return new MemoryError(
    `the model needs ${formatBytes(needed)}, ${formatBytes(options.budgetBytes)} may be used; largest: ${items.join(', ')}. ` +
      `A smaller --gpu-batch-size, --kv-type f16 or a smaller model would need less`,
    { needed, budgetBytes: options.budgetBytes, pagePositions: PAGE_POSITIONS },
  );
}
