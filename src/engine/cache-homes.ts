/** Pages of the KV cache in memory and on disk, and what they take. */
import { diskPageBytes } from '../kv/kv-spill.ts';
import { stagingSlotBytes } from '../kv/kv-staging.ts';
import { heldPages, type KvShape, layerGroups, pageBytes, pagesFor } from '../kv/layer-groups.ts';
import { attendingLayers, attentionWindows, type Model } from '../models/model.ts';
import type { KvType } from '../tensor/dtype.ts';
import type { ExecutionPlan, PlanSizes } from './execution-plan.ts';

/** What the cache has beside pages that stay in memory. */
export interface CacheOnDisk {
  /** Pages in memory, of each group of layers, that are written to before they go to disk. */
  readonly workingPages: readonly number[];
  /** Pages on disk, of each group of layers, for the rows of one micro-batch; slots for what passes through memory hold as many. */
  readonly bayPages: readonly number[];
  /** Of the file. */
  readonly bytes: number;
}

export interface PlannedCache {
  /** Of each group of layers, for rows that stay in memory. */
  readonly kvPages: readonly number[];
  readonly kvDisk: CacheOnDisk | null;
  /** Bytes of memory: pages, null pages included, and slots. */
  readonly kvBytes: number;
  readonly stagedBytes: number;
}

const columnsOf = ({ kvHeads, headDim }: Model): number => kvHeads * headDim;

/** Of the cache that a plan wants. */
export function cacheShape(model: Model, plan: Pick<ExecutionPlan, 'kvType' | 'batchTokens' | 'sweepChunks'>): KvShape {
  return {
    windows: attentionWindows(model),
    modelLayers: attendingLayers(model),
    columns: columnsOf(model),
    type: plan.kvType,
    chunk: plan.batchTokens * plan.sweepChunks,
  };
}

/** Bytes of memory of a cache with so many pages in each group of layers, null pages included. */
export function cacheBytes(model: Model, type: KvType, pages: readonly number[]): number {
  return layerGroups(attentionWindows(model)).reduce(
    (sum, { layers }, i) => sum + (pages[i]! + 1) * pageBytes({ columns: columnsOf(model), type }, layers.length),
    0,
  );
}

/** Bytes of one of the attending layers, `index` among them. */
export function cacheBytesOfLayer(
  model: Model,
  { kvType, kvPages, kvDisk }: Pick<PlannedCache, 'kvPages' | 'kvDisk'> & { readonly kvType: KvType },
  index: number,
): number {
  const group = layerGroups(attentionWindows(model)).findIndex(({ layers }) => layers.includes(index));
  const pages = kvPages[group]! + (kvDisk?.workingPages[group] ?? 0);
  return (pages + 1) * pageBytes({ columns: columnsOf(model), type: kvType }, 1);
}

/** What a cache with these pages takes. */
export function cacheOf(model: Model, type: KvType, kvPages: readonly number[], kvDisk: CacheOnDisk | null): PlannedCache {
  const pages = kvPages.map((count, i) => count + (kvDisk?.workingPages[i] ?? 0));
  const slotPages = Math.max(0, ...(kvDisk?.bayPages ?? []));
  return {
    kvPages: Object.freeze(kvPages),
    kvDisk,
    kvBytes: cacheBytes(model, type, pages),
    stagedBytes: stagingSlotBytes({ type, columns: columnsOf(model) }, slotPages),
  };
}

/**
 * The cache in which rows have `pages` in the layers that see everything, the share `inMemory` of them in memory. A group with a window never needs more
 * than all sequences hold at most of it; it gets no less for the case that rows are shorter than the window.
 */
export function cachePools(model: Model, sizes: PlanSizes, inMemory = 1): (pages: number) => PlannedCache {
  const { gpuBatchSize, numGpuBatches: bays, batchTokens, sweepChunks, kvType } = sizes;
  const chunk = batchTokens * sweepChunks;
  const windows = layerGroups(attentionWindows(model)).map(({ window }) => window);
  const most = windows.map((window) => gpuBatchSize * bays * heldPages(model.contextLength, window, chunk));
  // A row writes to its last page, and to those that a chunk of its prompt fills.
  const working = bays * (gpuBatchSize + pagesFor(chunk));
  return (pages) => {
    const all = most.map((limit) => Math.min(pages, limit));
    if (inMemory >= 1) return cacheOf(model, kvType, all, null);
    const kvPages = all.map((count) => Math.round(inMemory * count));
    // The row that has no room left in memory has it in one of the bays.
    const oneRow = (count: number): number => (inMemory > 0 ? Math.ceil(count / (gpuBatchSize * bays)) : 0);
    const bayPages = all.map((count, i) => Math.ceil((count - kvPages[i]!) / bays) + oneRow(count));
    const workingPages = all.map((count) => Math.min(working, count));
    const bytes = cacheDiskBytes(
      model,
      kvType,
      bayPages.map((count) => count * bays),
    );
    return cacheOf(
      model,
      kvType,
      kvPages,
      Object.freeze({ workingPages: Object.freeze(workingPages), bayPages: Object.freeze(bayPages), bytes }),
    );
  };
}

/** Bytes of the file that holds so many pages of each group of layers. */
export function cacheDiskBytes(model: Model, type: KvType, pages: readonly number[]): number {
  const groups = layerGroups(attentionWindows(model));
  return groups.reduce((sum, { layers }, i) => sum + 2 * layers.length * pages[i]! * diskPageBytes({ type, columns: columnsOf(model) }), 0);
}
