/** A plan that was made before, perhaps elsewhere: it runs only where it says what this model takes on this device. */
import { layerGroups } from '../kv/layer-groups.ts';
import { attentionWindows, type Model } from '../models/model.ts';
import { UsageError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import {
  bufferBytes,
  cacheBytes,
  type ExecutionPlan,
  leastCachePages,
  pagePools,
  type PlanBytes,
  type PlanOptions,
  totalOf,
} from './execution-plan.ts';
import { homesOf, LEAST_SLOTS, type WeightHomesPlan } from './weight-homes.ts';

/** Bytes that follow from model, device and the plan's sizes. Those of the program are another's in every process. */
const COMPARED = ['weights', 'ring', 'staging', 'kv', 'hidden', 'logits', 'scratch'] as const satisfies readonly (keyof PlanBytes)[];

export interface GivenPlanOptions extends PlanOptions {
  /** Bytes by which the plan may go beyond the budget. Default 0. */
  readonly slackBytes?: number | undefined;
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
  checkPages(model, plan, options.cachePositions);
  const homes = plannedHomes(plan, options);
  const { residentBytes: weights, ringBytes: ring } = homes;
  const kv = cacheBytes(model, plan.kvType, plan.kvPages);
  const items = { ...bufferBytes(model, plan, options), weights, ring, kv };
  for (const name of COMPARED) if (items[name] !== plan.bytes[name]) throw mismatch(`bytes.${name}`, items[name], plan.bytes[name]);
  const total = totalOf(items);
  if (total - (options.slackBytes ?? 0) > options.budgetBytes)
    throw new UsageError(`plan: it needs ${formatBytes(total)}, at most ${formatBytes(options.budgetBytes)} may be used`, {
      needed: total,
      budgetBytes: options.budgetBytes,
    });
  return Object.freeze({ ...plan, bytes: Object.freeze({ ...items, total }) });
}

function checkPages(model: Model, plan: ExecutionPlan, cachePositions: number | undefined): void {
  const groups = layerGroups(attentionWindows(model)).length;
  if (plan.kvPages.length !== groups) throw mismatch('kvPages', `numbers of ${groups} groups of layers`, plan.kvPages.length);
  if (cachePositions === undefined) return;
  const least = pagePools(model, plan)(leastCachePages(model, cachePositions)).kvPages;
  if (least.some((pages, i) => plan.kvPages[i]! < pages))
    throw mismatch('kvPages', `at least ${least.join(', ')} for ${cachePositions} positions`, plan.kvPages.join(', '));
}

function plannedHomes({ weights }: ExecutionPlan, { placeWeights, weightShare, weightBytes }: PlanOptions): WeightHomesPlan {
  const { share, slots, streamedBytes } = weights;
  if (weightShare !== undefined && weightShare !== share) throw mismatch('weights.share', weightShare, share);
  if (!placeWeights && share < 1) throw mismatch('weights.share', '1 (the device keeps all weights in memory)', share);
  const all = { share: 1, slots: 0, residentBytes: weightBytes, ringBytes: 0, streamedBytes: 0 };
  const homes = placeWeights ? homesOf(placeWeights, share, slots) : all;
  if (homes.streamedBytes !== streamedBytes) throw mismatch('weights.streamedBytes', homes.streamedBytes, streamedBytes);
  if (streamedBytes > 0 && slots < LEAST_SLOTS) throw mismatch('weights.slots', `at least ${LEAST_SLOTS}`, slots);
  if (homes.slots !== slots) throw mismatch('weights.slots', homes.slots, slots);
  return homes;
}

function mismatch(what: string, expected: string | number, got: string | number): UsageError {
  return new UsageError(`plan: ${what}: ${expected} expected for this model, device and flags, got ${got}`, { what, expected, got });
}
