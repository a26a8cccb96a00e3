/** A plan that was made before, perhaps elsewhere: it runs only where it says what this model takes on this device. */
import { layerGroups } from '../kv/layer-groups.ts';
import { attentionWindows, type Model } from '../models/model.ts';
import { UsageError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import { besideBytes, bufferBytes } from './buffer-bytes.ts';
import { COMPUTED_BYTES, type ExecutionPlan, leastCachePages, type PlanOptions } from './execution-plan.ts';
import { cacheDiskBytes, cacheOf, cachePools } from './cache-homes.ts';
import type { BesideBytes, HostPlan, HostPlanner } from './host-plan.ts';
import { totalOf } from './plan-items.ts';
import { homesOf, LEAST_SLOTS, type WeightHomesPlan } from './weight-homes.ts';

export interface GivenPlanOptions extends PlanOptions {
  /** Bytes by which the plan may go beyond the budgets. Default 0. */
  readonly slackBytes?: number | undefined;
  /** Of devices with memory of their own, whose `placeWeights` is that of the plan's shares. */
  readonly host?: HostPlanner | undefined;
  /** Share of the weights that was asked for in RAM beside such a device. */
  readonly heldShare?: number | undefined;
}

/**
 * The same plan with the bytes of this process. Options that were not given, undefined here, are the plan's.
 * @param plan of the right form, as `parsePlan` gives it
 * @throws {UsageError} naming what does not match, what was expected and what the plan has
 */
export function checkPlan(model: Model, plan: ExecutionPlan, options: GivenPlanOptions): ExecutionPlan {
  for (const name of ['gpuBatchSize', 'numGpuBatches', 'kvType', 'attnSparsity'] as const)
    if (options[name] !== undefined && options[name] !== plan[name]) throw mismatch(name, options[name], plan[name]);
  if (plan.batchTokens < plan.gpuBatchSize) throw mismatch('batchTokens', `at least gpuBatchSize, ${plan.gpuBatchSize},`, plan.batchTokens);
  const states = plan.numGpuBatches * plan.sweepChunks;
  if (plan.hiddenOnDisk > states) throw mismatch('hiddenOnDisk', `at most ${states}`, plan.hiddenOnDisk);
  const wantedOnDisk = options.hiddenShare === undefined ? plan.hiddenOnDisk : Math.round((1 - options.hiddenShare) * states);
  if (plan.hiddenOnDisk !== wantedOnDisk) throw mismatch('hiddenOnDisk', wantedOnDisk, plan.hiddenOnDisk);
  if (options.cacheShare !== undefined && options.cacheShare < 1 !== (plan.kvDisk !== null))
    throw mismatch('kvDisk', options.cacheShare < 1 ? 'pages' : 'nothing', plan.kvDisk ? 'pages' : 'nothing');
  checkPages(model, plan, options.cachePositions);
  const homes = plannedHomes(plan, options);
  const { residentBytes: weights, ringBytes: ring } = homes;
  const cache = cacheOf(model, plan.kvType, plan.kvPages, plan.kvDisk);
  const isBeside = options.cacheBesideBytes !== undefined;
  const [kv, staged] = isBeside ? [0, 0] : [cache.kvBytes, cache.stagedBytes];
  const items = { ...bufferBytes(model, plan, options), weights, ring, kv, staged };
  for (const name of COMPUTED_BYTES) if (items[name] !== plan.bytes[name]) throw mismatch(`bytes.${name}`, items[name], plan.bytes[name]);
  const total = totalOf(items);
  if (total - (options.slackBytes ?? 0) > options.budgetBytes)
    throw new UsageError(`plan: it needs ${formatBytes(total)}, at most ${formatBytes(options.budgetBytes)} may be used`, {
      needed: total,
      budgetBytes: options.budgetBytes,
    });
  const host = checkedHost(plan, options, isBeside ? besideBytes(model, plan, cache) : undefined);
  return Object.freeze({ ...plan, bytes: Object.freeze({ ...items, total }), ...(host && { host }) });
}

function checkedHost({ host, weights }: ExecutionPlan, options: GivenPlanOptions, beside: BesideBytes | undefined): HostPlan | undefined {
  const { host: planner, heldShare, slackBytes = 0 } = options;
  if (!host !== !planner) throw mismatch('host', planner ? 'RAM beside a GPU' : 'nothing', host ? 'RAM beside a GPU' : 'nothing');
  if (host && heldShare !== undefined && heldShare !== host.share) throw mismatch('host.share', heldShare, host.share);
  return host && planner?.check(host, weights.share, slackBytes, beside);
}

function checkPages(model: Model, plan: ExecutionPlan, cachePositions: number | undefined): void {
  const groups = layerGroups(attentionWindows(model)).length;
  if (plan.kvPages.length !== groups) throw mismatch('kvPages', `numbers of ${groups} groups of layers`, plan.kvPages.length);
  const { kvDisk, numGpuBatches } = plan;
  for (const name of ['workingPages', 'bayPages'] as const)
    if (kvDisk && kvDisk[name].length !== groups)
      throw mismatch(`kvDisk.${name}`, `numbers of ${groups} groups of layers`, kvDisk[name].length);
  if (kvDisk) {
    const bytes = cacheDiskBytes(
      model,
      plan.kvType,
      kvDisk.bayPages.map((count) => count * numGpuBatches),
    );
    if (kvDisk.bytes !== bytes) throw mismatch('kvDisk.bytes', bytes, kvDisk.bytes);
  }
  if (cachePositions === undefined) return;
  const least = cachePools(model, plan)(leastCachePages(model, cachePositions)).kvPages;
  const pages = plan.kvPages.map((count, i) => count + numGpuBatches * (kvDisk?.bayPages[i] ?? 0));
  if (least.some((count, i) => pages[i]! < count))
    throw mismatch('kvPages', `at least ${least.join(', ')} for ${cachePositions} positions`, pages.join(', '));
}

function plannedHomes({ weights }: ExecutionPlan, { placeWeights, weightShare, weightBytes }: PlanOptions): WeightHomesPlan {
  const { share, slots, streamedBytes } = weights;
  if (weightShare !== undefined && weightShare !== share) throw mismatch('weights.share', weightShare, share);
  if (!placeWeights && share < 1) throw mismatch('weights.share', '1 (the device keeps all weights in memory)', share);
  const all = { share: 1, slots: 0, residentBytes: weightBytes, ringBytes: 0, streamedBytes: 0 };
  const homes = placeWeights ? homesOf(placeWeights, share, slots) : all;
  if (homes.streamedBytes !== streamedBytes) throw mismatch('weights.streamedBytes', homes.streamedBytes, streamedBytes);
  if (homes.ringBytes > 0 && slots < LEAST_SLOTS) throw mismatch('weights.slots', `at least ${LEAST_SLOTS}`, slots);
  if (homes.slots !== slots) throw mismatch('weights.slots', homes.slots, slots);
  return homes;
}

function mismatch(what: string, expected: string | number, got: string | number): UsageError {
  return new UsageError(`plan: ${what}: ${expected} expected for this model, device and flags, got ${got}`, { what, expected, got });
}
