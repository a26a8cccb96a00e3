import { resolve } from 'node:path';
import type { LLM } from '../llm.ts';
import type { LoadOptions } from '../llm/load-options.ts';
import { UsageError } from '../util/errors.ts';
import { BUNDLED_NAME } from '../util/bundled.ts';
import type { Progress } from './progress.ts';
import type { ModelOptions } from './options.ts';

/** Opens the model that the flags name; the tensor library is loaded here and not before. */
export async function loadModel(
  options: ModelOptions,
  progress: Pick<Progress, 'say' | 'preparation'>,
  signal: AbortSignal,
  more: Pick<LoadOptions, 'defaults' | 'cachePositions' | 'rows'> = {},
): Promise<LLM> {
  const [{ LLM }, { checkPlanPlace, readPlan, writePlan }] = await Promise.all([import('../llm.ts'), import('../engine/plan-file.ts')]);
  const { plan, planOut } = options;
  if (planOut !== undefined) {
    checkApart(planOut, options.trace);
    await checkPlanPlace(planOut);
  }
  const llm = await LLM.load(modelName(options), {
    ...loadOptions(options),
    ...more,
    // What is written is to serve other tables too.
    rows: more.rows && { ...more.rows, others: planOut !== undefined },
    signal,
    onPreparation: progress.preparation,
    onNotice: progress.say,
    ...(plan !== undefined && { plan: await readPlan(plan) }),
  });
  if (planOut === undefined) return llm;
  try {
    await writePlan(planOut, llm.plan);
    return llm;
  } catch (cause) {
    await llm[Symbol.asyncDispose]();
    throw cause;
  }
}

/** One of them would be written over the other. */
function checkApart(planOut: string, trace: string | undefined): void {
  if (trace !== undefined && resolve(planOut) === resolve(trace))
    throw new UsageError(`--plan-out ${planOut}: is the trace as well; choose another name`);
}

function loadOptions(options: ModelOptions): LoadOptions {
  const {
    dummy,
    device,
    compute,
    kvType,
    gpuBatchSize,
    numGpuBatches,
    threads,
    sharePrefixes,
    mem,
    vram,
    gpus,
    percent,
    offloadDir,
    disk,
    overlap,
    checksums,
    trace,
  } = options;
  return {
    device,
    compute,
    kvType,
    ...(options.attnSparsity !== undefined && { attnSparsity: options.attnSparsity }),
    ...(options.dtype !== undefined && { dtype: options.dtype }),
    ...(options.convert !== undefined && { convert: options.convert }),
    ...(dummy !== undefined && { dummy }),
    ...(gpuBatchSize !== undefined && { gpuBatchSize }),
    ...(numGpuBatches !== undefined && { numGpuBatches }),
    ...(threads !== undefined && { threads }),
    ...(sharePrefixes !== undefined && { sharePrefixes }),
    ...(mem !== undefined && { memoryBytes: mem }),
    ...(vram !== undefined && { vramBytes: vram }),
    ...(gpus !== undefined && { gpus }),
    ...(percent !== undefined && { percent }),
    ...(offloadDir !== undefined && { offloadFolder: offloadDir }),
    ...(disk !== undefined && { diskBytes: disk }),
    overlap: overlap !== 'off',
    ...(checksums !== undefined && { checksums }),
    ...(trace !== undefined && { trace }),
  };
}

/** What decides the answers, as far as it can be known without opening the model. */
export function modelIdentity(options: ModelOptions): Record<string, string> {
  return {
    model: modelName(options),
    weights: options.dummy ? 'random' : 'files',
    dtype: options.dtype ?? 'auto',
    compute: options.compute,
    kvType: options.kvType,
    // Jobs that were begun before there was such a flag have the same identity as without it.
    ...((options.attnSparsity ?? 1) < 1 && { attnSparsity: String(options.attnSparsity) }),
  };
}

function modelName(options: ModelOptions): string {
  if (options.model !== undefined) return options.model;
  if (options.dummy) throw new UsageError('--dummy needs -m with the name of a known shape, such as -m opt-125m');
  return BUNDLED_NAME;
}
