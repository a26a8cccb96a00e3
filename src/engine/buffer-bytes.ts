/** What a plan takes beside weights and cache. */
import type { Model } from '../models/model.ts';
import type { PlanBytes, PlanOptions, PlanSizes } from './execution-plan.ts';
import { hiddenTensors } from './hidden-states.ts';

/** Positions that a device gathers at a time where attention is not paged, and copies of them alive at once. */
const GATHERED_POSITIONS = 2048;
const GATHERED_COPIES = 4;

/** Bytes of what is neither weights nor cache. */
export function bufferBytes(
  model: Model,
  { batchTokens, sweepChunks, numGpuBatches, headRows, hiddenOnDisk }: PlanSizes,
  { stagingBytes = 0, programBytes = 0, pagedAttention }: Pick<PlanOptions, 'stagingBytes' | 'programBytes' | 'pagedAttention'>,
): Pick<PlanBytes, 'hidden' | 'logits' | 'scratch' | 'staging' | 'program'> {
  return {
    hidden: 4 * model.hiddenSize * batchTokens * hiddenTensors({ count: numGpuBatches * sweepChunks, onDisk: hiddenOnDisk }),
    logits: 4 * model.vocabularySize * headRows,
    scratch: 4 * Math.max(layerElements(model, batchTokens, pagedAttention), headRows * (model.vocabularySize + 2 * model.hiddenSize)),
    staging: stagingBytes,
    program: programBytes,
  };
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
