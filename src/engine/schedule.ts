/** One piece of work: a layer for a micro-batch. */
export interface Step {
  readonly layer: number;
  readonly microBatch: number;
  /** The layer's weights are first needed here. */
  readonly acquire: boolean;
  /** The layer's weights are last needed here. */
  readonly release: boolean;
}

/** The steps of one sweep, layer by layer, so that one pass over the weights serves every micro-batch. The only order there is. */
export function* sweepSteps(layers: number, microBatches: number): Generator<Step, void, void> {
  for (let layer = 0; layer < layers; layer++) {
    for (let microBatch = 0; microBatch < microBatches; microBatch++) {
      yield { layer, microBatch, acquire: microBatch === 0, release: microBatch === microBatches - 1 };
    }
  }
}
