/** What a plan takes beside weights and cache. */
import type { Model } from '../models/model.ts';
import { RUNS_AT_ONCE } from '../tensor/attention-beside.ts';
import type { Side } from '../tensor/crossing-tensors.ts';
import type { PlannedCache } from './cache-homes.ts';
import type { BesideBytes } from './host-plan.ts';
import type { PlanBytes, PlanOptions, PlanSizes } from './execution-plan.ts';
import { hiddenTensors } from './hidden-states.ts';

/** Positions that a device gathers at a time where attention is not paged, and copies of them alive at once. */
const GATHERED_POSITIONS = 2048;
const GATHERED_COPIES = 4;

/** Of a log-probability of a row in flight: 12 in a list, the rest what is made of it when rows end together. Measured: docs/offloading.md. */
const SCORE_BYTES = 80;
/** What comes and goes as few of them are made into answers, until the collector keeps up. */
const SCORE_WASTE_BYTES = 320;
const MOST_WASTE_BYTES = 16 << 20;

type BufferOptions = Pick<
  PlanOptions,
  'stagingBytes' | 'programBytes' | 'rows' | 'scores' | 'pagedAttention' | 'cacheBesideBytes' | 'deviceCount'
>;

/** Bytes of what is neither weights nor cache. */
export function bufferBytes(
  model: Model,
  { gpuBatchSize, batchTokens, sweepChunks, numGpuBatches, headRows, hiddenOnDisk }: PlanSizes,
  { stagingBytes = 0, programBytes = 0, rows, scores, pagedAttention, cacheBesideBytes, deviceCount = 1 }: BufferOptions,
): Pick<PlanBytes, 'hidden' | 'logits' | 'scratch' | 'staging' | 'program' | 'results'> {
  const isBeside = cacheBesideBytes !== undefined;
  const layer = layerElements(model, batchTokens, { pagedAttention, isBeside });
  const elements = Math.max(layer, headRows * (model.vocabularySize + 2 * model.hiddenSize));
  return {
    hidden: deviceCount * 4 * model.hiddenSize * batchTokens * hiddenTensors({ count: numGpuBatches * sweepChunks, onDisk: hiddenOnDisk }),
    logits: 4 * model.vocabularySize * headRows,
    scratch: deviceCount * (4 * elements + (isBeside ? crossingBytes(model, batchTokens).device : 0)),
    staging: stagingBytes,
    program: programBytes,
    results: programBytes > 0 ? resultBytes({ rows, scores }, gpuBatchSize * numGpuBatches) : 0,
  };
}

/** Log-probabilities of the rows in flight, `most` at a time. */
export function resultBytes({ rows, scores = 0 }: Pick<PlanOptions, 'rows' | 'scores'>, most: number): number {
  const all = Math.min(rows?.count ?? Infinity, most) * scores;
  return SCORE_BYTES * all + Math.min(SCORE_WASTE_BYTES * all, MOST_WASTE_BYTES);
}

/** What a cache with the plan's pages takes of RAM where it lies beside the device. */
export function besideBytes(model: Model, { batchTokens }: PlanSizes, { kvBytes, stagedBytes }: PlannedCache): BesideBytes {
  return { kv: kvBytes, staged: stagedBytes, scratch: crossingBytes(model, batchTokens).attending };
}

/** What goes to another device's attention and comes back, on both sides, for all runs that are in flight at a time; there, also the result of one. */
export function crossingBytes({ heads, kvHeads, headDim }: Model, batchTokens: number): Record<Side, number> {
  const device = 4 * batchTokens * RUNS_AT_ONCE * 2 * (heads + kvHeads) * headDim;
  return { device, attending: device + 4 * batchTokens * heads * headDim };
}

/**
 * Numbers between the ops of a layer. On our kernels, results that are not needed at the same time share memory: 58 to 89 % of this was seen, for six
 * families. ggml takes more, and gathers keys and values.
 */
function layerElements(
  model: Model,
  tokens: number,
  { pagedAttention, isBeside }: { readonly pagedAttention: boolean | undefined; readonly isBeside: boolean },
): number {
  if (pagedAttention) return tokens * widest(model);
  if (isBeside) return tokens * 2 * widest(model);
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
