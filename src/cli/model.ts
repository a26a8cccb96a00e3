import type { LLM } from '../llm.ts';
import type { GenerationParams } from '../requests.ts';
import { UsageError } from '../util/errors.ts';
import { BUNDLED_NAME } from '../util/bundled.ts';
import type { Progress } from './progress.ts';
import type { ModelOptions } from './options.ts';

/** Opens the model that the flags name; the tensor library is loaded here and not before. */
export async function loadModel(
  options: ModelOptions,
  progress: Pick<Progress, 'say' | 'preparation'>,
  signal: AbortSignal,
  defaults: GenerationParams = {},
): Promise<LLM> {
  const { LLM } = await import('../llm.ts');
  const { dummy, device, compute, kvType, gpuBatchSize, numGpuBatches, threads, sharePrefixes, mem, percent, overlap, trace } = options;
  return LLM.load(modelName(options), {
    device,
    compute,
    kvType,
    defaults,
    signal,
    onPreparation: progress.preparation,
    onNotice: progress.say,
    ...(options.dtype !== undefined && { dtype: options.dtype }),
    ...(options.convert !== undefined && { convert: options.convert }),
    ...(dummy !== undefined && { dummy }),
    ...(gpuBatchSize !== undefined && { gpuBatchSize }),
    ...(numGpuBatches !== undefined && { numGpuBatches }),
    ...(threads !== undefined && { threads }),
    ...(sharePrefixes !== undefined && { sharePrefixes }),
    ...(mem !== undefined && { memoryBytes: mem }),
    ...(percent !== undefined && { percent }),
    overlap: overlap !== 'off',
    ...(trace !== undefined && { trace }),
  });
}

/** What decides the answers, as far as it can be known without opening the model. */
export function modelIdentity(options: ModelOptions): Record<string, string> {
  return {
    model: modelName(options),
    weights: options.dummy ? 'random' : 'files',
    dtype: options.dtype ?? 'auto',
    compute: options.compute,
    kvType: options.kvType,
  };
}

function modelName(options: ModelOptions): string {
  if (options.model !== undefined) return options.model;
  if (options.dummy) throw new UsageError('--dummy needs -m with the name of a known shape, such as -m opt-125m');
  return BUNDLED_NAME;
}
