import { attentionWindows } from '../models/model.ts';
import { elementCount } from '../tensor/dtype.ts';
import type { ModelSource } from './model-source.ts';

/** Sizes of a model, as its configuration has them. */
export interface ModelShape {
  /** Layers with attention. */
  readonly layers: number;
  /** Columns of the hidden state between layers. */
  readonly hiddenSize: number;
  /** Columns of the keys of a layer, and of its values. */
  readonly kvColumns: number;
  readonly vocabularySize: number;
  /** Numbers in all weights; those that several layers use count once. */
  readonly parameters: number;
  /** Ids that end a completion. */
  readonly endTokenIds: readonly number[];
}

export function modelShape({ model, stopIds }: Pick<ModelSource, 'model' | 'stopIds'>): ModelShape {
  const weights = new Map(model.layers.flatMap((layer) => layer.weights).map(({ name, shape }) => [name, elementCount(shape)]));
  return {
    layers: attentionWindows(model).length,
    hiddenSize: model.hiddenSize,
    kvColumns: model.kvHeads * model.headDim,
    vocabularySize: model.vocabularySize,
    parameters: [...weights.values()].reduce((sum, count) => sum + count, 0),
    endTokenIds: [...stopIds],
  };
}
