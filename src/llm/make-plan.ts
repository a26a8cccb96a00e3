/** What will run: the plan that was given, if it suits, or a new one. */
import { createPlan, type ExecutionPlan } from '../engine/execution-plan.ts';
import { checkPlan } from '../engine/given-plan.ts';
import { parsePlan } from '../engine/plan-file.ts';
import type { Model } from '../models/model.ts';
import type { Device } from '../tensor/device.ts';
import type { KvType } from '../tensor/dtype.ts';
import { UsageError } from '../util/errors.ts';
import { availableMemoryBytes } from '../util/machine.ts';
import { placeWeights } from '../weights/placement.ts';
import type { WeightStore } from '../weights/weight-store.ts';
import { stagingBytes } from '../weights/weight-uploader.ts';
import { resolveKvType } from './kv-type.ts';
import { weightShareOf } from './percent.ts';

/** Of LoadOptions, what plans are made from. */
export interface PlanSettings {
  readonly compute: 'auto' | 'f32';
  readonly kvType?: 'auto' | KvType | undefined;
  readonly attnSparsity?: number | undefined;
  readonly gpuBatchSize?: number | undefined;
  readonly numGpuBatches?: number | undefined;
  readonly memoryBytes?: number | undefined;
  readonly cachePositions?: number | undefined;
  readonly percent?: readonly number[] | undefined;
  readonly plan?: ExecutionPlan | undefined;
  readonly onNotice?: ((notice: string) => void) | undefined;
}

export interface PlannedParts {
  readonly model: Model;
  readonly device: Device;
  readonly weights: Pick<WeightStore, 'bytes' | 'plan'>;
}

/** What a job adds to the memory of the program that has opened a model: rows on their way, graphs, the collector's slack. */
const PROGRAM_GROWTH_BYTES = 96 << 20;
/** What a program takes, and what is free, differ by so much from one start to the next; a plan that just fitted must not be refused for that. */
const START_SLACK_BYTES = 64 << 20;

/** @throws {MemoryError} {UsageError} {FormatError} */
export function makePlan({ model, device, weights }: PlannedParts, settings: PlanSettings): ExecutionPlan {
  const { compute, memoryBytes, gpuBatchSize, numGpuBatches, cachePositions } = settings;
  // Also of programs without types, whose plans may be anything.
  const given = settings.plan && parsePlan('plan', settings.plan);
  const wanted = settings.kvType ?? 'auto';
  const kvType = resolveKvType(wanted === 'auto' && given ? given.kvType : wanted, { device, compute, headDim: model.headDim });
  const attnSparsity = settings.attnSparsity ?? given?.attnSparsity;
  checkSparsity(attnSparsity, device);
  const options = {
    kvType,
    attnSparsity,
    weightBytes: weights.bytes,
    placeWeights: device.reserve && ((share: number) => placeWeights(weights.plan, share, device.capabilities.splitLookups)),
    weightShare: shareOf(settings, device),
    stagingBytes: stagingBytes(device, weights.plan.weights),
    pagedAttention: device.capabilities.pagedAttention,
    budgetBytes: memoryBytes ?? availableMemoryBytes(),
    programBytes: memoryBytes === undefined ? undefined : process.memoryUsage.rss() + PROGRAM_GROWTH_BYTES,
    gpuBatchSize,
    numGpuBatches,
    cachePositions,
  };
  return given ? checkPlan(model, given, { ...options, slackBytes: START_SLACK_BYTES }) : createPlan(model, options);
}

function checkSparsity(attnSparsity: number | undefined, { name, capabilities }: Device): void {
  if (attnSparsity === undefined) return;
  if (!(attnSparsity > 0 && attnSparsity <= 1)) throw new UsageError(`--attn-sparsity: a number in (0, 1] expected, got ${attnSparsity}`);
  if (attnSparsity < 1 && !capabilities.sparseAttention)
    throw new UsageError(`--attn-sparsity ${attnSparsity}: ${name} has no sparse attention, only 1; our kernels on the processor have it`);
}

function shareOf({ percent, onNotice }: PlanSettings, device: Device): number | undefined {
  if (!percent) return undefined;
  const share = weightShareOf(percent, device.tier, onNotice);
  if (share < 1 && !device.reserve) throw new UsageError(`percent: ${device.name} keeps all weights in memory`);
  return share;
}
