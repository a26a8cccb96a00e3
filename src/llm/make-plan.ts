/** What will run: the plan that was given, if it suits, or a new one. */
import { besideBytes, crossingBytes, resultBytes } from '../engine/buffer-bytes.ts';
import { cacheOf } from '../engine/cache-homes.ts';
import { createPlan, DEFAULT_BATCH_TOKENS, mostRows, type ExecutionPlan, type PlanOptions } from '../engine/execution-plan.ts';
import { checkPlan } from '../engine/given-plan.ts';
import { HostPlanner } from '../engine/host-plan.ts';
import { parsePlan } from '../engine/plan-file.ts';
import type { Model } from '../models/model.ts';
import type { Device, DeviceRoom } from '../tensor/device.ts';
import type { KvType } from '../tensor/dtype.ts';
import { UsageError } from '../util/errors.ts';
import { availableMemoryBytes } from '../util/machine.ts';
import { ownBytes } from '../util/own-memory.ts';
import { placementRules, placeWeights, type TierShares, type WeightPlacement } from '../weights/placement.ts';
import type { WeightStore } from '../weights/weight-store.ts';
import { stagingBytes } from '../weights/weight-uploader.ts';
import { gpuBudget, gpuLimits, heldLimit } from './gpu-budget.ts';
import { GpuRanges } from './gpu-ranges.ts';
import { resolveKvType } from './kv-type.ts';
import { sharesOf, type Shares } from './percent.ts';

/** Of LoadOptions, what plans are made from. */
export interface PlanSettings {
  readonly compute: 'auto' | 'f32';
  readonly kvType?: 'auto' | KvType | undefined;
  readonly attnSparsity?: number | undefined;
  readonly gpuBatchSize?: number | undefined;
  readonly numGpuBatches?: number | undefined;
  readonly memoryBytes?: number | undefined;
  readonly vramBytes?: number | undefined;
  readonly gpus?: number | undefined;
  readonly cachePositions?: number | undefined;
  readonly rows?: PlanOptions['rows'];
  readonly scores?: number | undefined;
  readonly percent?: readonly number[] | undefined;
  /** Bytes of disk that may be used. Default: no limit. */
  readonly diskBytes?: number | undefined;
  readonly plan?: ExecutionPlan | undefined;
  readonly onNotice?: ((notice: string) => void) | undefined;
}

export interface PlannedParts {
  readonly model: Model;
  readonly device: Device;
  /** Where the cache lies, and attention is computed. Default: on the device. */
  readonly attending?: Device | undefined;
  readonly weights: Pick<WeightStore, 'bytes' | 'plan'>;
}

/** What a program takes, and what is free, differ by so much from one start to the next; a plan that just fitted must not be refused for that. */
const START_SLACK_BYTES = 64 << 20;

/** @throws {MemoryError} {UsageError} {FormatError} */
export function makePlan({ model, device, attending = device, weights }: PlannedParts, settings: PlanSettings): ExecutionPlan {
  const { compute, gpuBatchSize, numGpuBatches, cachePositions, rows, scores } = settings;
  // Also of programs without types, whose plans may be anything.
  const given = settings.plan && parsePlan('plan', settings.plan);
  const wanted = settings.kvType ?? 'auto';
  const kvType = resolveKvType(wanted === 'auto' && given ? given.kvType : wanted, { device: attending, compute, headDim: model.headDim });
  const shares = wantedShares(settings, device, attending);
  if (given?.kvDisk && !attending.capabilities.stagedPages)
    throw new UsageError(`plan: kvDisk: ${attending.name} keeps the whole KV cache in memory`);
  const attnSparsity = settings.attnSparsity ?? given?.attnSparsity;
  checkSparsity(attnSparsity, attending);
  const options = {
    kvType,
    attnSparsity,
    weightBytes: weights.bytes,
    cacheShare: shares?.cache,
    hiddenShare: shares?.hidden,
    diskBytes: settings.diskBytes,
    pagedAttention: device.capabilities.pagedAttention,
    gpuBatchSize,
    numGpuBatches,
    cachePositions,
    rows,
    scores,
  };
  const place = (tiers: TierShares): WeightPlacement => placeWeights(weights.plan, tiers, placementRules(device));
  const ram = ramOf(settings, stagingBytes(device, weights.plan.weights));
  const room = device.room?.();
  if (room) {
    const limits = room.parts && gpuLimits(room.parts, settings.vramBytes);
    const ranges = limits && new GpuRanges({ model, rangeOf: (layer) => device.rangeOf?.(layer) ?? 0, limits });
    const counted = { ...ram, programBytes: ram.programBytes && ram.programBytes + resultBytes(options, mostRows(given ?? options)) };
    return planWithGpu({ model, isBeside: attending !== device, room, ranges, ram: counted, place, shares, given, options }, settings);
  }
  for (const [flag, value] of [['--vram', settings.vramBytes] as const, ['--gpus', settings.gpus] as const])
    if (value !== undefined) settings.onNotice?.(`there is no GPU: ${flag} bounds nothing`);
  const placeInRam = device.reserve && ((resident: number) => place({ resident, held: 0 }));
  const inRam = { ...options, ...ram, placeWeights: placeInRam, weightShare: shares?.weights.resident };
  return given ? checkPlan(model, given, { ...inRam, slackBytes: START_SLACK_BYTES }) : createPlan(model, inRam);
}

interface GpuParts {
  readonly model: Model;
  /** The cache is in RAM. */
  readonly isBeside: boolean;
  readonly room: DeviceRoom;
  /** Of several GPUs. */
  readonly ranges: GpuRanges | undefined;
  readonly ram: ReturnType<typeof ramOf>;
  /** Where shares of the weights would lie. */
  readonly place: (tiers: TierShares) => WeightPlacement;
  readonly shares: Shares | undefined;
  readonly given: ExecutionPlan | undefined;
  readonly options: Omit<PlanOptions, 'budgetBytes'>;
}

function planWithGpu(parts: GpuParts, settings: PlanSettings): ExecutionPlan {
  const { model, isBeside, room, ranges, ram, place, shares, given, options } = parts;
  const cacheBesideBytes = isBeside ? roomBeside(parts, settings) : undefined;
  const besideRoom = cacheBesideBytes === undefined ? 0 : cacheBesideBytes + attendingBytes(parts);
  const held = given?.host?.share ?? shares?.weights.held;
  const host = new HostPlanner({ ...ram, place, share: held, besideBytes: besideRoom, ...heldLimit(room, settings) });
  const weightShare = shares?.weights.resident;
  const single = { ...options, ...gpuBudget(room, settings.vramBytes), placeWeights: host.place, weightShare, cacheBesideBytes };
  const joined = ranges && { budgetBytes: ranges.budgetBytes, placeWeights: ranges.place(host.place), deviceCount: room.parts?.length };
  const gpu = { ...single, ...joined };
  if (given) {
    const checked = checkPlan(model, given, { ...gpu, host, heldShare: shares?.weights.held, slackBytes: START_SLACK_BYTES });
    ranges?.check(checked, gpu, START_SLACK_BYTES);
    return checked;
  }
  const plan = ranges ? ranges.fit(gpu, (each) => createPlan(model, each)) : createPlan(model, gpu);
  const beside = isBeside ? besideBytes(model, plan, cacheOf(model, plan.kvType, plan.kvPages, plan.kvDisk)) : undefined;
  return Object.freeze({ ...plan, host: host.plan(plan.weights.share, beside) });
}

/** Share of free RAM that a cache beside a GPU may take unasked. */
const BESIDE_SHARE = 1 / 2;

/** Bytes of RAM for a cache beside a GPU. */
function roomBeside(parts: GpuParts, { memoryBytes }: PlanSettings): number {
  const { ram, room, place, shares } = parts;
  const { heldBytes = 0, residentBytes = 0 } = shares ? place(shares.weights) : {};
  // What a GPU without memory of its own holds is in RAM too, and a budget that was set says how much of that is RAM's.
  const weights = heldBytes + (room.isRam && memoryBytes === undefined ? residentBytes : 0);
  const others = ram.stagingBytes + (ram.programBytes ?? 0) + weights + attendingBytes(parts);
  return Math.floor((ram.budgetBytes - others) * (memoryBytes === undefined ? BESIDE_SHARE : 1));
}

/** Of RAM, for what goes to the cache and comes back. */
function attendingBytes({ model, given, options: { gpuBatchSize = 0 } }: GpuParts): number {
  return crossingBytes(model, given?.batchTokens ?? Math.max(DEFAULT_BATCH_TOKENS, gpuBatchSize)).attending;
}

/** What may be used of RAM, and what of that is not the model's. */
function ramOf(
  { memoryBytes }: PlanSettings,
  staging: number,
): { budgetBytes: number; programBytes: number | undefined; stagingBytes: number } {
  return {
    budgetBytes: memoryBytes ?? availableMemoryBytes(),
    programBytes: memoryBytes === undefined ? undefined : ownBytes(),
    stagingBytes: staging,
  };
}

/** Whether the cache is to lie in RAM, or on disk, beside a device. */
export function wantsCacheBeside({ percent, plan }: Pick<PlanSettings, 'percent' | 'plan'>, device: Device): boolean {
  if (device.tier !== 'gpu') return false;
  if (percent) return sharesOf(percent, device.tier).cacheBeside;
  return ((plan && parsePlan('plan', plan))?.host?.bytes.kv ?? 0) > 0;
}

function wantedShares({ percent, onNotice }: PlanSettings, device: Device, attending: Device): Shares | undefined {
  if (!percent) return undefined;
  const shares = sharesOf(percent, device.tier, onNotice);
  const { resident, held } = shares.weights;
  if (resident + held < 1 && !device.reserve) throw new UsageError(`percent: ${device.name} keeps all weights in memory`);
  if ((shares.cache < 1 && !attending.capabilities.stagedPages) || (shares.cacheBeside && attending === device))
    throw new UsageError(`percent: ${device.name} keeps the whole KV cache in memory`);
  return shares;
}

function checkSparsity(attnSparsity: number | undefined, { name, capabilities }: Device): void {
  if (attnSparsity === undefined) return;
  if (!(attnSparsity > 0 && attnSparsity <= 1)) throw new UsageError(`--attn-sparsity: a number in (0, 1] expected, got ${attnSparsity}`);
  if (attnSparsity < 1 && !capabilities.sparseAttention)
    throw new UsageError(`--attn-sparsity ${attnSparsity}: ${name} has no sparse attention, only 1; our kernels on the processor have it`);
}
