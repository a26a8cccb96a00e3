import type { Model, WeightSpec } from '../models/model.ts';
import type { DeviceCapabilities } from '../tensor/device.ts';
import { byteLengthOf, elementCount, isQuantType, type WeightType } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { SourceWeight, WeightSource } from './weight-source.ts';

/** `f32`: activations are never rounded below f32. `auto`: bf16 and quantised weights as the device takes them, others like `f32`. */
export type Compute = 'auto' | 'f32';

/** Where a weight comes from and what it becomes on the device. */
export interface PlannedWeight {
  readonly spec: WeightSpec;
  readonly source: SourceWeight;
  readonly deviceType: WeightType;
  /** On the device. */
  readonly byteLength: number;
}

export interface WeightPlan {
  /** Weights of each layer, in execution order. A tied weight is the same object in all layers that use it. */
  readonly layers: readonly (readonly PlannedWeight[])[];
  /** Each weight once, in the order of first use. */
  readonly weights: readonly PlannedWeight[];
  /** Bytes of all weights on the device. */
  readonly bytes: number;
}

/**
 * Finds and checks the weights of all layers. Reads none of them.
 * @throws {FormatError} when one is missing or has another shape
 */
export function planWeights(
  model: Pick<Model, 'layers'>,
  source: WeightSource,
  capabilities: Pick<DeviceCapabilities, 'exactWeights' | 'weights'>,
  compute: Compute,
): WeightPlan {
  const planned = new Map<string, PlannedWeight>();
  const layers = model.layers.map((layer) =>
    layer.weights.map((spec) => {
      const weight =
        planned.get(spec.name) ?? planWeight(spec, constantWeight(spec) ?? source.find(spec, layer.name), capabilities, compute);
      const shapes = [weight.spec, spec].map(({ shape }) => `[${shape.join(', ')}]`);
      if (shapes[0] !== shapes[1]) throw internalError(`${spec.name} has two shapes: ${shapes.join(', ')}`);
      planned.set(spec.name, weight);
      return weight;
    }),
  );
  const weights = [...planned.values()];
  return { layers, weights, bytes: weights.reduce((sum, { byteLength }) => sum + byteLength, 0) };
}

/** Bytes that a model's weights will take on a device. @throws {FormatError} as `planWeights` */
export function plannedWeightBytes(
  model: Pick<Model, 'layers'>,
  source: WeightSource,
  device: { readonly capabilities: Pick<DeviceCapabilities, 'exactWeights' | 'weights'> },
  compute: Compute,
): number {
  return planWeights(model, source, device.capabilities, compute).bytes;
}

/** The type on the device: always one that holds every stored value exactly. */
export function deviceTypeOf(
  stored: WeightType,
  role: WeightSpec['role'],
  capabilities: Pick<DeviceCapabilities, 'exactWeights' | 'weights'>,
  compute: Compute,
): WeightType {
  if (role === 'vector' || role === 'router') return 'f32';
  const rounds = stored === 'bf16' || isQuantType(stored);
  const usable = rounds && compute === 'auto' ? capabilities.weights : capabilities.exactWeights;
  return usable.includes(stored) ? stored : 'f32';
}

/** A weight that is computed is none that a source must have. */
function constantWeight({ name, shape, values }: WeightSpec): SourceWeight | undefined {
  if (!values) return undefined;
  if (elementCount(shape) !== values.length) throw internalError(`${name}: ${values.length} values for shape [${shape.join(', ')}]`);
  const bytes = new Uint8Array(Float32Array.from(values).buffer);
  return {
    dtype: 'f32',
    read: async (first, target) => target.set(bytes.subarray(4 * first, 4 * first + target.byteLength)),
  };
}

function planWeight(
  spec: WeightSpec,
  source: SourceWeight,
  capabilities: Pick<DeviceCapabilities, 'exactWeights' | 'weights'>,
  compute: Compute,
): PlannedWeight {
  const deviceType = deviceTypeOf(source.dtype, spec.role, capabilities, compute);
  return { spec, source, deviceType, byteLength: byteLengthOf(deviceType, elementCount(spec.shape)) };
}
