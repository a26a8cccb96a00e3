/** GGUF files of published shapes with random weights. llama.cpp runs those of the families that it knows. */
import { folderMetadata } from '../src/convert/metadata.ts';
import { convertSource } from '../src/llm/stored-source.ts';
import type { WriteOptions } from '../src/convert/write-model.ts';
import type { Model, WeightSpec } from '../src/models/model.ts';
import { buildModel } from '../src/models/registry.ts';
import { blockElements, isQuantType, type WeightType } from '../src/tensor/dtype.ts';
import { UsageError } from '../src/util/errors.ts';
import { dummyWeights } from '../src/weights/dummy-weights.ts';
import { shapeConfig } from './shapes.ts';

export interface MadeModel {
  readonly shape: string;
  /** Of the matrices. */
  readonly type: WeightType;
  /** Default: as many as the shape has. */
  readonly layers?: number;
}

/**
 * Writes the file whole or not at all. It has no vocabulary, so prompts are token ids.
 * @throws {UsageError} for an unknown shape, or one whose rows are no whole blocks; else as `writeModel`
 */
export async function writeModelFile({ shape, type, layers }: MadeModel, file: string, options: WriteOptions = {}): Promise<void> {
  const config = shapeConfig(shape, layers);
  const model = buildModel(config, shape);
  const source = {
    name: shape,
    model,
    weights: dummyWeights({ dtype: (spec) => typeOf(spec, type, model) }),
    stopIds: new Set(model.eosTokenIds),
    recommended: {},
    fingerprint: `random ${shape} ${type}`,
    metadata: async () => folderMetadata({ name: shape, config, vocabulary: new Map() }, model),
  };
  await convertSource(source, file, options);
}

/**
 * As llama.cpp's quantiser has them: norms and biases in f32, and what the logits come from in q6_k where the rest has smaller blocks. What it
 * does not know has one type throughout, as our converter makes it. Source: `llama_tensor_get_type` of llama.cpp.
 */
function typeOf({ name, role, shape }: WeightSpec, type: WeightType, { layers, gguf }: Model): WeightType {
  if (role === 'vector' || role === 'router') return 'f32';
  const columns = shape.at(-1)!;
  if (columns % blockElements(type) !== 0)
    throw new UsageError(`${name} has rows of ${columns} elements, blocks of ${type} have ${blockElements(type)}`);
  const isHead = layers.at(-1)!.weights.some((weight) => weight.name === name);
  const isFiner = !isQuantType(type) || type === 'q8_0' || columns % blockElements('q6_k') !== 0;
  return gguf && isHead && !isFiner ? 'q6_k' : type;
}
