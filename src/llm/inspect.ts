/** What a model is and what it takes, without reading its weights. */
import { resolveKvType } from './kv-type.ts';
import { createPlan, type PlanBytes } from '../engine/execution-plan.ts';
import type { KvType, WeightType } from '../tensor/dtype.ts';
import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { MemoryError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { availableMemoryBytes } from '../util/machine.ts';
import type { StorageType } from '../weights/storage-type.ts';
import { type Compute, type PlannedWeight, planWeights } from '../weights/weight-plan.ts';
import { openDevice } from './device.ts';
import { openNamedSource, type PreparationOptions } from './named-source.ts';
import { recodedSource } from './stored-source.ts';

export interface ModelReport {
  readonly name: string;
  readonly family: string;
  /** Blocks with attention. */
  readonly layers: number;
  readonly hiddenSize: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly vocabularySize: number;
  readonly contextLength: number;
  /** Positions that layers with a sliding window see, without repeats; empty if none has one. */
  readonly windows: readonly number[];
  readonly parameters: number;
  /** As stored, largest first. */
  readonly types: readonly { readonly type: WeightType; readonly tensors: number; readonly bytes: number }[];
  readonly tokenizer: boolean;
  readonly chatTemplate: boolean;
  /** Bytes of memory that may be used now. */
  readonly availableBytes: number;
  /** Memory at several block sizes, or why it does not fit. */
  readonly plans: readonly { readonly rows: number; readonly bytes?: PlanBytes; readonly problem?: string }[];
}

export interface InspectOptions extends PreparationOptions {
  readonly compute: Compute;
  readonly kvType: 'auto' | KvType;
  /** As if the weights were of this type. */
  readonly dtype?: StorageType;
}

/** From a single conversation to a large batch. */
const BLOCK_SIZES = [1, 16, 64, 256];

/** @throws {UsageError} {FormatError} when it cannot be opened */
export async function inspectModel(name: string, options: InspectOptions): Promise<ModelReport> {
  const { compute, kvType, dtype = 'auto' } = options;
  await using lifetime = new Lifetime();
  const opened = await openNamedSource(name, lifetime, options);
  const source = dtype === 'auto' ? opened : recodedSource(opened, dtype, options.onNotice);
  const { model } = source;
  const device = lifetime.use(await openDevice('cpu', { threads: 1, exact: compute === 'f32' }));
  const { weights, bytes: weightBytes } = planWeights(model, source.weights, device.capabilities, compute);
  const stored = weights.filter(({ spec }) => !spec.values);
  const availableBytes = availableMemoryBytes();
  const cacheType = resolveKvType(kvType, { device, compute, headDim: model.headDim });
  return {
    name,
    family: model.family,
    layers: model.layers.filter(({ attends }) => attends).length,
    hiddenSize: model.hiddenSize,
    heads: model.heads,
    kvHeads: model.kvHeads,
    headDim: model.headDim,
    vocabularySize: model.vocabularySize,
    contextLength: model.contextLength,
    windows: [...new Set(model.layers.flatMap(({ window }) => window ?? []))],
    parameters: stored.reduce((sum, { spec }) => sum + elementCount(spec.shape), 0),
    types: sizesByType(stored),
    tokenizer: source.tokenizer !== undefined,
    chatTemplate: source.chatTemplate !== undefined,
    availableBytes,
    plans: BLOCK_SIZES.map((rows) => {
      try {
        const { pagedAttention } = device.capabilities;
        const block = { kvType: cacheType, weightBytes, budgetBytes: availableBytes, gpuBatchSize: rows, pagedAttention };
        return { rows, bytes: createPlan(model, block).bytes };
      } catch (error) {
        if (!(error instanceof MemoryError)) throw error;
        return { rows, problem: error.message };
      }
    }),
  };
}

function sizesByType(weights: readonly PlannedWeight[]): ModelReport['types'] {
  const sizes = new Map<WeightType, { tensors: number; bytes: number }>();
  for (const { spec, source } of weights) {
    const size = sizes.get(source.dtype) ?? { tensors: 0, bytes: 0 };
    size.tensors++;
    size.bytes += byteLengthOf(source.dtype, elementCount(spec.shape));
    sizes.set(source.dtype, size);
  }
  return [...sizes].map(([type, size]) => ({ type, ...size })).toSorted((a, b) => b.bytes - a.bytes);
}
