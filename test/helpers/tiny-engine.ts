/** An engine around a tiny model on a device that runs anywhere, with all its sizes in the open. */
import { cacheShape } from '../../src/engine/cache-homes.ts';
import { Engine } from '../../src/engine/engine.ts';
import type { EngineInput, SweepOutcome } from '../../src/engine/sweep-outcome.ts';
import type { ExecutionPlan } from '../../src/engine/execution-plan.ts';
import { Executor } from '../../src/engine/executor.ts';
import type { SequenceRequest, SequenceResult } from '../../src/engine/sequence.ts';
import { HiddenStates } from '../../src/engine/hidden-states.ts';
import { KvCache } from '../../src/kv/kv-cache.ts';
import { DEFAULT_PARAMS } from '../../src/llm/params.ts';
import { KvStaging } from '../../src/kv/kv-staging.ts';
import { layerGroups } from '../../src/kv/layer-groups.ts';
import { attentionWindows, type Model } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import type { SpillFile } from '../../src/native/spill-file.ts';
import type { PositionLogprobs, SamplingParams } from '../../src/sampling/params.ts';
import { type RowSampler, takeRows as takeReferenceRows } from '../../src/sampling/rows.ts';
import { AttentionBeside } from '../../src/tensor/attention-beside.ts';
import type { Device } from '../../src/tensor/device.ts';
import { createReferenceDevice } from '../../src/tensor/reference-device.ts';
import type { LaneLog } from '../../src/util/lanes.ts';
import { Lifetime } from '../../src/util/lifetime.ts';
import { dummyWeights } from '../../src/weights/dummy-weights.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { placementRules, placeWeights } from '../../src/weights/placement.ts';
import { WeightStore } from '../../src/weights/weight-store.ts';
import { randomNumbers } from './tensors.ts';

const TINY_CONFIG = {
  model_type: 'opt',
  vocab_size: 40,
  hidden_size: 16,
  ffn_dim: 32,
  num_attention_heads: 2,
  num_hidden_layers: 2,
  max_position_embeddings: 256,
};

export const tinyModel = (): Model => buildModel(TINY_CONFIG, 'tiny');

/** Four layers. Its table and half of its matrices have rows of several panels, so that they are cut; its head has the weights of its table. */
export const deeperModel = (positions: number = 256): Model =>
  buildModel({ ...TINY_CONFIG, vocab_size: 70, ffn_dim: 64, num_hidden_layers: 4, max_position_embeddings: positions }, 'tiny');

/** Large enough for logits that differ. */
export function livelyWeights(): WeightSource {
  const source = dummyWeights({ dtype: 'f32' });
  return {
    find: (spec, layer) => {
      const weight = source.find(spec, layer);
      if (spec.role === 'vector') return weight;
      return {
        dtype: 'f32',
        read: async (first, target) => {
          await weight.read(first, target);
          const numbers = new Float32Array(target.buffer, target.byteOffset, target.byteLength / 4);
          for (let i = 0; i < numbers.length; i++) numbers[i]! *= 40;
        },
      };
    },
  };
}

/** Weights with NaN in one element. */
export function damagedWeights(name: string, element: number): WeightSource {
  const source = livelyWeights();
  return {
    find: (spec, layer) => {
      const weight = source.find(spec, layer);
      if (spec.name !== name) return weight;
      const read = async (first: number, target: Uint8Array): Promise<void> => {
        await weight.read(first, target);
        const at = element - first;
        if (at >= 0 && at * 4 < target.byteLength) new DataView(target.buffer, target.byteOffset).setFloat32(4 * at, NaN, true);
      };
      return { dtype: weight.dtype, read };
    },
  };
}

export interface TinyOptions extends Partial<Omit<ExecutionPlan, 'bytes' | 'weights'>> {
  readonly device?: Device;
  /** Where the cache lies, and attention is computed. Default: on the device. */
  readonly attending?: Device;
  readonly model?: Model;
  readonly weights?: WeightSource;
  readonly takeRows?: RowSampler;
  readonly sharePrefixes?: boolean;
  readonly reserveAll?: boolean;
  /** Share of the weights that stays in memory. Default 1. */
  readonly weightShare?: number;
  /** Share that rests in RAM beside the device. Default 0. */
  readonly heldShare?: number;
  readonly slots?: number;
  readonly overlap?: boolean;
  readonly lanes?: LaneLog;
  /** File for pages of the cache that rest on disk, as `kvDisk` says. */
  readonly file?: SpillFile;
  /** For hidden states on disk. */
  readonly hiddenFile?: SpillFile;
}

export interface TinyEngine extends AsyncDisposable {
  readonly engine: Engine;
  readonly cache: KvCache;
  readonly device: Device;
  readonly model: Model;
}

const NO_BYTES = { weights: 0, ring: 0, staging: 0, kv: 0, staged: 0, hidden: 0, logits: 0, scratch: 0, program: 0, results: 0, total: 0 };

export function openTiny({
  device = createReferenceDevice(),
  attending = device,
  model = tinyModel(),
  weights = livelyWeights(),
  takeRows = takeReferenceRows,
  sharePrefixes,
  reserveAll,
  weightShare = 1,
  heldShare = 0,
  slots = 3,
  overlap,
  lanes,
  file,
  hiddenFile,
  ...sizes
}: TinyOptions = {}): TinyEngine {
  const lifetime = new Lifetime();
  const plan: ExecutionPlan = {
    gpuBatchSize: 4,
    numGpuBatches: 1,
    batchTokens: 64,
    sweepChunks: 1,
    headRows: 8,
    kvPages: layerGroups(attentionWindows(model)).map(() => 16),
    kvType: 'f32',
    kvDisk: null,
    hiddenOnDisk: 0,
    attnSparsity: 1,
    ...sizes,
    weights: { share: weightShare, slots, streamedBytes: 0 },
    bytes: NO_BYTES,
  };
  const store = lifetime.use(new WeightStore(device, model, weights, { compute: 'f32', overlap }));
  const shape = cacheShape(model, plan);
  const { kvDisk, numGpuBatches } = plan;
  const disk = kvDisk && file && { working: kvDisk.workingPages, bay: kvDisk.bayPages, bays: numGpuBatches, file, lanes };
  const cache = lifetime.use(new KvCache(attending, shape, plan.kvPages, disk ?? undefined));
  const pages = Math.max(...(kvDisk?.bayPages ?? [0]));
  const staging = cache.spill && lifetime.use(new KvStaging({ device: attending, shape, spill: cache.spill, pages, lanes, overlap }));
  const count = numGpuBatches * plan.sweepChunks;
  const hiddenSizes = { count, onDisk: plan.hiddenOnDisk, tokens: plan.batchTokens, hiddenSize: model.hiddenSize };
  const hidden = lifetime.use(new HiddenStates({ device, sizes: hiddenSizes, file: hiddenFile, lanes }));
  const { batchTokens } = plan;
  const computing = attending === device ? device : lifetime.use(new AttentionBeside({ device, attending, batchTokens, lanes }));
  const executor = lifetime.use(
    new Executor({ device: computing, model, weights: store, cache, staging, hidden, plan, ...(lanes && { lanes }) }),
  );
  store.start({ placement: placeWeights(store.plan, { resident: weightShare, held: heldShare }, placementRules(device)), slots });
  const engine = new Engine({ model, plan, executor, cache, takeRows, sharePrefixes, reserveAll });
  return { engine, cache, device, model, [Symbol.asyncDispose]: () => lifetime[Symbol.asyncDispose]() };
}

const GREEDY: SamplingParams = { ...DEFAULT_PARAMS, maxTokens: 4, ignoreEos: true };

export interface RequestOptions extends Partial<Omit<SequenceRequest, 'tokens' | 'sampling'>>, Partial<SamplingParams> {
  /** Ids, or how many of them. */
  readonly tokens?: readonly number[] | number;
}

export function makeRequest(
  id: number,
  { tokens = 3, stopIds = new Set(), key = id, mask, ...sampling }: RequestOptions = {},
): SequenceRequest {
  const ids = typeof tokens === 'number' ? randomNumbers(id + 1, tokens).map((x) => Math.floor((x + 1) * 20)) : tokens;
  return { id, key, tokens: Int32Array.from(ids), sampling: { ...GREEDY, ...sampling }, stopIds, ...(mask && { mask }) };
}

export async function collect(run: AsyncIterable<SweepOutcome>): Promise<SweepOutcome[]> {
  const outcomes: SweepOutcome[] = [];
  for await (const outcome of run) outcomes.push(outcome);
  return outcomes;
}

/** Of a sequence, as plain data that can be compared. */
export interface PlainResult extends Omit<SequenceResult, 'logprobs' | 'promptLogprobs'> {
  readonly logprobs?: readonly PositionLogprobs[];
  /** With null for the first token. */
  readonly promptLogprobs?: readonly (PositionLogprobs | null)[];
}

/** Results by id. */
export function resultsOf(outcomes: readonly SweepOutcome[]): Map<number, PlainResult> {
  return new Map(outcomes.flatMap(({ finished }) => finished).map((result) => [result.id, plainResult(result)]));
}

function plainResult({ logprobs, promptLogprobs, ...rest }: SequenceResult): PlainResult {
  return {
    ...rest,
    ...(logprobs && { logprobs: logprobs.toArray() }),
    ...(promptLogprobs && { promptLogprobs: [null, ...promptLogprobs.toArray()] }),
  };
}

export async function runAll(
  engine: Engine,
  requests: Iterable<EngineInput> | AsyncIterable<EngineInput>,
): Promise<Map<number, PlainResult>> {
  return resultsOf(await collect(engine.run(requests)));
}
