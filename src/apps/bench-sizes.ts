/** Sizes as FlexGen's benchmark states them: everything in 16 bits, whatever is really stored. */
import type { ModelShape } from '../llm/model-shape.ts';
import { type BenchTask, rowsOf } from './bench-figures.ts';

/** In bytes. */
export interface BenchSizes {
  readonly model: number;
  /** Keys and values of all rows at their full length. */
  readonly cache: number;
  /** Hidden states of all rows at their full length. */
  readonly hidden: number;
}

const BYTES = 2;

export function benchSizes(family: string, shape: ModelShape, task: BenchTask): BenchSizes {
  const positions = rowsOf(task) * (task.promptTokens + task.newTokens);
  return {
    model: BYTES * (family === 'opt' ? optParameters(shape) : shape.parameters),
    cache: BYTES * 2 * positions * shape.layers * shape.kvColumns,
    hidden: BYTES * positions * shape.hiddenSize,
  };
}

/**
 * As published model sizes count: each product of a block with a vector as its bias, two norms, the token table once, and no positions. Real
 * checkpoints have a little more, which would make the same model another size in every log.
 */
function optParameters({ layers, hiddenSize: h, vocabularySize }: ModelShape): number {
  const attention = h * (3 * h + 1) + h * (h + 1);
  const mlp = h * (4 * h + 1) + 4 * h * (h + 1);
  return layers * (attention + mlp + 4 * h) + vocabularySize * (h + 1);
}
