import type { Interleave, Model, WeightSpec } from '../models/model.ts';
import { elementCount, type WeightType } from '../tensor/dtype.ts';
import type { SourceWeight, WeightSource } from '../weights/weight-source.ts';

/** A tensor of a GGUF file that is to be written. */
export interface OutputTensor {
  readonly name: string;
  readonly dtype: WeightType;
  /** Outermost dimension first. */
  readonly shape: readonly number[];
  /** Its elements in row-major order, of type `dtype`. */
  readonly weight: SourceWeight;
  readonly interleave?: Interleave;
}

/** Every weight of a model once, in execution order, as GGUF files have them: fused projections and experts as one tensor. Reads none. */
export function outputTensors(model: Pick<Model, 'layers' | 'gguf'>, source: WeightSource): OutputTensor[] {
  const tensors = new Map<string, OutputTensor>();
  for (const layer of model.layers) {
    for (const spec of layer.weights) {
      const name = spec.rows?.fusedName ?? spec.name;
      if (spec.values || tensors.has(name)) continue;
      tensors.set(name, outputTensor(name, wholeTensor(spec), source, layer.name));
    }
  }
  for (const [name, values] of model.gguf?.vectors ?? []) tensors.set(name, vectorTensor(name, values));
  return [...tensors.values()];
}

function outputTensor(name: string, spec: WeightSpec, source: WeightSource, layer: string): OutputTensor {
  const weight = source.find(spec, layer);
  const { stack, shape, interleave } = spec;
  const outer = stack ? [stack.count, shape[0]! / stack.count, ...shape.slice(1)] : shape;
  return { name, dtype: weight.dtype, shape: outer, weight, ...(interleave && { interleave }) };
}

function wholeTensor(spec: WeightSpec): WeightSpec {
  if (spec.rows?.fusedName === undefined) return spec;
  const { rows, ...rest } = spec;
  return { ...rest, name: rows.fusedName!, shape: [rows.of, ...spec.shape.slice(1)] };
}

function vectorTensor(name: string, values: readonly number[]): OutputTensor {
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  const weight: SourceWeight = {
    dtype: 'f32',
    read: async (first, target) => target.set(bytes.subarray(4 * first, 4 * first + target.byteLength)),
  };
  return { name, dtype: 'f32', shape: [values.length], weight };
}

/** Elements of a row: of one head's element, for a vector with heads. */
export const rowElements = ({ shape }: Pick<OutputTensor, 'shape'>): number => (shape.length < 2 ? 1 : shape.at(-1)!);

/** Elements that must be written together: rows of one head, or one element. */
export function unitElements(tensor: OutputTensor): number {
  if (tensor.interleave) return tensor.interleave.headRows * rowElements(tensor);
  return tensor.shape.length < 2 ? elementCount(tensor.shape) : rowElements(tensor);
}
