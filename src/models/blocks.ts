/** Pieces that several model families are made of: a named linear or norm, as weights to ask for and as ops to emit. */
import type { Weight } from '../tensor/device.ts';
import type { GraphBuilder } from '../tensor/graph.ts';
import type { LinearOptions, Value } from '../tensor/op-graph.ts';
import { internalError } from '../util/errors.ts';
import type { LayerInputs, WeightSpec } from './model.ts';

/** `name.weight` [outputs, inputs] and, if wanted, `name.bias` [outputs]. */
export function linearWeights(name: string, { inputs, outputs, bias, sources, rows, interleave }: LinearSpec): WeightSpec[] {
  const part = (suffix: string) => rows && { rows: { ...rows, ...(rows.fusedName && { fusedName: `${rows.fusedName}.${suffix}` }) } };
  const order = interleave && { interleave };
  const weight: WeightSpec = {
    name: `${name}.weight`,
    shape: [outputs, inputs],
    role: 'matrix',
    sources: suffixed(sources, 'weight'),
    ...part('weight'),
    ...order,
  };
  return bias ? [weight, { ...vectorWeight(`${name}.bias`, outputs, suffixed(sources, 'bias')), ...part('bias'), ...order }] : [weight];
}

export interface LinearSpec {
  readonly inputs: number;
  readonly outputs: number;
  readonly bias: boolean;
  readonly sources: readonly string[];
  /** Its part of a fused projection. */
  readonly rows?: NonNullable<WeightSpec['rows']>;
  readonly interleave?: WeightSpec['interleave'];
}

/** `name.weight` [size]. `offset` is what a model adds to the stored weight. */
export function rmsNormWeights(name: string, size: number, sources: readonly string[], offset = 0): WeightSpec[] {
  return [{ ...vectorWeight(`${name}.weight`, size, suffixed(sources, 'weight')), ...(offset !== 0 && { offset }) }];
}

/** `name.weight` and `name.bias`, both [size]. */
export function layerNormWeights(name: string, size: number, sources: readonly string[]): WeightSpec[] {
  return [vectorWeight(`${name}.weight`, size, suffixed(sources, 'weight')), vectorWeight(`${name}.bias`, size, suffixed(sources, 'bias'))];
}

/** Multiplies by `name.weight`, and adds `name.bias` if the layer lists one. */
export function linear(graph: GraphBuilder, inputs: LayerInputs, x: Value, name: string, options: Omit<LinearOptions, 'bias'> = {}): Value {
  return graph.linear(x, requireWeight(inputs, `${name}.weight`), { bias: inputs.weights.get(`${name}.bias`), ...options });
}

/** Layer norm with the parameters that the layer lists, or with none. */
export function layerNorm(graph: GraphBuilder, inputs: LayerInputs, x: Value, name: string, epsilon: number): Value {
  const weight = inputs.weights.get(`${name}.weight`);
  const bias = inputs.weights.get(`${name}.bias`);
  return graph.norm(x, { kind: 'layer', weight, bias, epsilon });
}

/** RMS norm of each of `groups` equal parts of the columns. */
export function rmsNorm(
  graph: GraphBuilder,
  inputs: LayerInputs,
  x: Value,
  name: string,
  { epsilon, groups = 1 }: { epsilon: number; groups?: number },
): Value {
  return graph.norm(x, { kind: 'rms', groups, weight: requireWeight(inputs, `${name}.weight`), epsilon });
}

export function requireWeight(inputs: LayerInputs, name: string): Weight {
  const weight = inputs.weights.get(name);
  if (!weight) throw internalError(`weight ${name} was not handed to the layer that lists it`);
  return weight;
}

export function requireHidden(inputs: LayerInputs): Value {
  if (!inputs.hidden) throw internalError('a layer behind the first was built without a hidden state');
  return inputs.hidden;
}

function vectorWeight(name: string, size: number, sources: readonly string[]): WeightSpec {
  return { name, shape: [size], role: 'vector', sources };
}

const suffixed = (sources: readonly string[], suffix: string): string[] => sources.map((source) => `${source}.${suffix}`);
