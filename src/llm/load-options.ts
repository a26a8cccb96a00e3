/** What a model is loaded with. */
import type { ExecutionPlan } from '../engine/execution-plan.ts';
import type { ExpectedRows, GenerationParams } from '../requests.ts';
import { MAX_TOP_LOGPROBS } from '../sampling/logprobs.ts';
import type { FloatType, KvType } from '../tensor/dtype.ts';
import { UsageError } from '../util/errors.ts';
import type { ConvertMode, StorageType } from '../weights/storage-type.ts';
import type { DeviceName } from './device.ts';
import type { PreparationProgress } from './named-source.ts';

export interface LoadOptions {
  /**
   * What computes. `gpu`: the first GPU backend that is installed and works; `auto`: that, or the processor. `reference` is plain TypeScript: slow, for tests.
   * Default `cpu`.
   */
  readonly device?: DeviceName;
  /** `f32`: nothing is rounded below f32. `auto`: as fast as the weights allow. Default `auto`. */
  readonly compute?: 'auto' | 'f32';
  /** Type of the KV cache; `auto` is f16, or f32 with compute `f32`. Default `auto`. */
  readonly kvType?: 'auto' | KvType;
  /**
   * Share of the positions before it whose values a generated token uses, those with the largest weights; prompts use all. Below 1, results differ. On our
   * kernels. Default 1.
   */
  readonly attnSparsity?: number;
  /** Rows that the device computes together. Default 64. */
  readonly gpuBatchSize?: number;
  /** Such batches in flight; weights are read once for all of them. Default 1; where weights pass through memory, as many as the cache has room for. */
  readonly numGpuBatches?: number;
  /** Whether prompts that begin with the same tokens compute their beginning once. Default true; results are the same without on our kernels. */
  readonly sharePrefixes?: boolean;
  /** GPUs of a backend that share the model's layers, at most. Default: all of them. */
  readonly gpus?: number;
  /** CPU threads. Default, and at most: physical cores, or the container's quota. More would only wait for each other. */
  readonly threads?: number;
  /** Random weights: the name is that of a published shape, such as `opt-125m`. `true` stores them as f16. Default false. */
  readonly dummy?: boolean | FloatType;
  /** Type of the weights; `auto` keeps the one that they are stored in. Vectors and what decides between experts are always f32. Default `auto`. */
  readonly dtype?: StorageType;
  /** Whether a model that is no GGUF file, or of another type, is first written to the cache as one. `auto`: from 1 GiB on. Default `auto`. */
  readonly convert?: ConvertMode;
  /** While a model is fetched from the hub, or such a file is written. */
  readonly onPreparation?: (progress: PreparationProgress) => void;
  /** What is worth telling the user, in sentences. */
  readonly onNotice?: (notice: string) => void;
  /** Parameters of requests that do not say otherwise. They win over the model's own recommendations. */
  readonly defaults?: GenerationParams;
  /**
   * Bytes of memory that the whole process may use; V8 is told to keep the heap small, for as long as the process runs. Log-probabilities are counted where `rows` tells of them. Default: what
   * is free now, container limits included.
   */
  readonly memoryBytes?: number;
  /** Bytes of a GPU's memory that may be used. Default: what is free now, less a reserve. */
  readonly vramBytes?: number;
  /**
   * FlexGen's placement: percent of the weights, the KV cache and the hidden states on the GPU and in RAM, the rest on disk. Default: all weights in memory if
   * there is room, otherwise what there is room for beside the cache; with a GPU, on it as far as they fit, then in RAM.
   */
  readonly percent?: readonly number[];
  /** Folder for what `percent` puts on disk beside the weights; it must not be in memory. Default: the cache folder of this program. */
  readonly offloadFolder?: string;
  /** Bytes of disk that may be used there. Default: what is free, less a tenth. */
  readonly diskBytes?: number;
  /** Whether weights are read while others compute. Default true; without, which shows what that brings, results are the same. */
  readonly overlap?: boolean;
  /**
   * Whether the weights of a converted file are compared with their checksums when they are read for the first time: a damaged file then ends the run before
   * it gives a token. Default true.
   */
  readonly checksums?: boolean;
  /** Positions of all rows in flight that the KV cache must have room for. Default: what there is room for, at least a short row. */
  readonly cachePositions?: number;
  /** What is known of the rows to come: the KV cache gets no more room than they can fill. They may be others all the same. Default: nothing. */
  readonly rows?: ExpectedRows | undefined;
  /** Runs with this plan instead of making one: the `plan` of a model that was opened before. It is refused where it does not suit. */
  readonly plan?: ExecutionPlan;
  /**
   * File that gains, when the model is disposed of, what each lane did when, as `flexllmgen trace` and ui.perfetto.dev read it. A failure to write
   * it is a notice. Default none.
   */
  readonly trace?: string;
  /** Stops loading. */
  readonly signal?: AbortSignal;
}

/** A batch of 0 rows would wait for ever, and native code takes what it is given. */
export function checkCounts(options: LoadOptions): void {
  for (const name of [
    'gpuBatchSize',
    'numGpuBatches',
    'gpus',
    'threads',
    'memoryBytes',
    'vramBytes',
    'diskBytes',
    'cachePositions',
  ] as const) {
    const value = options[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value > 0))
      throw new UsageError(`${name}: a positive integer expected, got ${value}`);
  }
  const { count, promptTokens, maxTokens = 0 } = options.rows ?? { count: 0, promptTokens: 0 };
  for (const [name, value] of Object.entries({ count, promptTokens, maxTokens }))
    if (!(Number.isSafeInteger(value) && value >= 0)) throw new UsageError(`rows.${name}: an integer from 0 on expected, got ${value}`);
  for (const name of ['logprobs', 'promptLogprobs'] as const) {
    const value = options.rows?.[name];
    if (value !== undefined && !(Number.isSafeInteger(value) && value >= 0 && value <= MAX_TOP_LOGPROBS))
      throw new UsageError(`rows.${name}: an integer from 0 to ${MAX_TOP_LOGPROBS} expected, got ${value}`);
  }
}
