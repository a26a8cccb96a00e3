/** KV cache and hidden states of a plan, and the files for what of them rests on disk. */
import { statfs } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { cacheShape } from '../engine/cache-homes.ts';
import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { hiddenFileBytes, HiddenStates } from '../engine/hidden-states.ts';
import { KvCache } from '../kv/kv-cache.ts';
import { diskPageBytes } from '../kv/kv-spill.ts';
import { KvStaging } from '../kv/kv-staging.ts';
import type { Model } from '../models/model.ts';
import { SpillFile } from '../native/spill-file.ts';
import { type Device, ARENA_ALIGNMENT } from '../tensor/device.ts';
import type { LaneLog } from '../util/lanes.ts';
import type { Lifetime } from '../util/lifetime.ts';
import { availableMemoryBytes } from '../util/machine.ts';
import { formatBytes } from '../util/units.ts';
import { cacheFolder } from './model-cache.ts';

export interface OffloadOptions {
  readonly percent?: readonly number[] | undefined;
  readonly plan?: ExecutionPlan | undefined;
  readonly offloadFolder?: string | undefined;
  readonly diskBytes?: number | undefined;
  readonly overlap?: boolean | undefined;
  readonly memoryBytes?: number | undefined;
  readonly onNotice?: ((notice: string) => void) | undefined;
}

export interface OffloadedParts {
  readonly device: Device;
  /** Where the cache lies. Default: on the device. */
  readonly attending?: Device | undefined;
  readonly model: Model;
  readonly plan: ExecutionPlan;
  readonly lanes: LaneLog;
  readonly lifetime: Lifetime;
}

/** Share of what is free that may be used unasked. */
const FREE_SHARE = 0.9;

const folderOf = ({ offloadFolder }: OffloadOptions): string => offloadFolder ?? join(cacheFolder(), 'offload');

/** Bytes that may be used on disk; undefined where that cannot be told. */
export async function diskBudget(options: OffloadOptions): Promise<number | undefined> {
  if (options.diskBytes !== undefined) return options.diskBytes;
  for (let folder = folderOf(options); ; folder = dirname(folder)) {
    const facts = await statfs(folder).catch(() => undefined); // it may have to be made
    if (facts) return Math.floor(facts.bavail * facts.bsize * FREE_SHARE);
    if (folder === dirname(folder)) return undefined;
  }
}

export interface Offloaded {
  readonly cache: KvCache;
  /** Where pages of the cache on disk pass through memory, if there are such. */
  readonly staging: KvStaging | undefined;
  readonly hidden: HiddenStates;
}

/** @throws {MemoryError} {DiskFullError} {FlexError} */
export async function openOffloaded(parts: OffloadedParts, options: OffloadOptions): Promise<Offloaded> {
  const opened = await openCache(parts, options);
  if (options.memoryBytes !== undefined) await claimCache(opened.cache, parts, options);
  return { ...opened, hidden: await openHidden(parts, options) };
}

/** A budget that was set is there to be used. Without one others may want some of what is free until rows do. */
async function claimCache(cache: KvCache, { plan }: OffloadedParts, { onNotice }: OffloadOptions): Promise<void> {
  const bytes = plan.bytes.kv + (plan.host?.bytes.kv ?? 0);
  const free = availableMemoryBytes();
  // The system would end the program that asks for it, or others.
  if (bytes <= free) return cache.claim();
  onNotice?.(
    `the KV cache may grow to ${formatBytes(bytes)}, ${formatBytes(free)} of memory are free: --mem is more than this machine has`,
  );
}

async function openHidden({ device, model, plan, lanes, lifetime }: OffloadedParts, options: OffloadOptions): Promise<HiddenStates> {
  const { numGpuBatches, sweepChunks, hiddenOnDisk: onDisk, batchTokens: tokens } = plan;
  const sizes = { count: numGpuBatches * sweepChunks, onDisk, tokens, hiddenSize: model.hiddenSize };
  const bytes = hiddenFileBytes(sizes);
  const isDirect = (4 * model.hiddenSize) % ARENA_ALIGNMENT === 0;
  const file = bytes > 0 ? lifetime.use(await SpillFile.create(folderOf(options), bytes, isDirect)) : undefined;
  return lifetime.use(new HiddenStates({ device, sizes, file, lanes }));
}

async function openCache(
  { device: computing, attending: device = computing, model, plan, lanes, lifetime }: OffloadedParts,
  options: OffloadOptions,
): Promise<Pick<Offloaded, 'cache' | 'staging'>> {
  const shape = cacheShape(model, plan);
  const { kvPages, kvDisk, numGpuBatches } = plan;
  if (!kvDisk) return { cache: lifetime.use(new KvCache(device, shape, kvPages)), staging: undefined };
  const isDirect = diskPageBytes(shape) % ARENA_ALIGNMENT === 0;
  const file = lifetime.use(await SpillFile.create(folderOf(options), kvDisk.bytes, isDirect));
  const disk = { working: kvDisk.workingPages, bay: kvDisk.bayPages, bays: numGpuBatches, file, lanes };
  const cache = lifetime.use(new KvCache(device, shape, kvPages, disk));
  const pages = Math.max(...kvDisk.bayPages);
  const staging = lifetime.use(new KvStaging({ device, shape, spill: cache.spill!, pages, lanes, overlap: options.overlap }));
  return { cache, staging };
}
