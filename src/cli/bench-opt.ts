import { access, appendFile, constants } from 'node:fs/promises';
import { dirname } from 'node:path';
import { type BenchFigures, type BenchTask, figuresOf, rowsOf } from '../apps/bench-figures.ts';
import { logBlock, logName } from '../apps/bench-log.ts';
import { findBenchModel, type BenchModel } from '../apps/bench-model.ts';
import { measure, type Measurement } from '../apps/bench-opt.ts';
import { benchSizes, type BenchSizes } from '../apps/bench-sizes.ts';
import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { readPlan } from '../engine/plan-file.ts';
import type { LLM } from '../llm.ts';
import { sharesOf } from '../llm/percent.ts';
import { PAGE_POSITIONS } from '../tensor/device.ts';
import { UsageError } from '../util/errors.ts';
import { peakMemoryBytes } from '../util/machine.ts';
import { reason } from '../util/system-errors.ts';
import { formatBytes, formatRate, formatSeconds } from '../util/units.ts';
import { BENCH_DEFAULTS, type BenchOptions } from './bench-options.ts';
import { EXIT } from './exit-code.ts';
import { onInterrupt } from './interrupt.ts';
import { loadModel } from './model.ts';
import { percentText } from './plan-text.ts';
import { PROCESS_OUTPUT, type CliOutput } from './output.ts';
import { stderrProgress, type Progress } from './progress.ts';
import { oneLine, renderFacts } from './render.ts';

/** What was run, and what came of it. */
export interface BenchReport extends BenchFigures {
  readonly model: string;
  readonly weights: 'random' | 'files';
  readonly kernels: string;
  readonly task: BenchTask;
  readonly percent: readonly number[];
  readonly attnSparsity: number;
  readonly bytes: BenchSizes;
  /** `disk`: weights that are read for every sweep. */
  readonly peakBytes: { readonly gpu: number; readonly cpu: number; readonly disk: number };
}

interface Policy {
  readonly task: BenchTask;
  readonly percent: readonly number[];
}

/** `flexllmgen bench-opt` */
export async function benchOpt(options: BenchOptions, output: CliOutput = PROCESS_OUTPUT): Promise<number> {
  const policy = await policyOf(options);
  sharesOf(policy.percent, 'cpu');
  const logFile = options.log ? logFileOf(options, policy) : undefined;
  if (logFile !== undefined) await checkFolder(logFile);
  const progress = stderrProgress({ quiet: options.verbose === 0, json: options.json ?? false });
  for (const notice of benchNotices(options)) progress.say(notice);
  const { report, texts } = await runBench(options, policy, progress).finally(progress.end);
  if (options.json) output.out(`${JSON.stringify({ ...report, logFile: logFile ?? null })}\n`);
  else if (options.verbose >= 1) output.out(renderBench(report, logFile));
  if (!options.json && options.verbose >= 2) output.out(renderTexts(texts, rowsOf(policy.task)));
  if (logFile !== undefined) await appendFile(logFile, logBlock(report.bytes, report.peakBytes.gpu, report));
  return EXIT.ok;
}

/** What this engine has no switch for, and does instead. */
export function benchNotices(options: BenchOptions): string[] {
  const { sepLayer, pinWeight, cpuCacheCompute, debugMode, device } = options;
  const notices = [
    sepLayer !== undefined && '--sep-layer: attention and MLP of a layer move together here, whatever it says',
    pinWeight !== undefined && '--pin-weight: RAM beside a GPU is page-locked where its driver does that, whatever it says',
    cpuCacheCompute !== undefined &&
      device !== 'cpu' &&
      `--cpu-cache-compute: attention is computed where the cache is, whatever it says; --percent puts it on the GPU or beside it`,
    debugMode === 'fewer_batch' && '--debug-mode fewer_batch: all batches are run, nothing is projected from fewer',
    debugMode === 'breakdown' && '--debug-mode breakdown: --trace FILE records where the time goes, without slowing anything down',
  ];
  return notices.filter((notice) => notice !== false);
}

/** A plan that is given decides what the flags leave open. */
async function policyOf(options: BenchOptions): Promise<Policy> {
  const plan = options.plan === undefined ? undefined : await readPlan(options.plan);
  const planned = plan && { ...plan, percent: percentOf(plan) };
  const { gpuBatchSize, numGpuBatches, percent } = { ...BENCH_DEFAULTS, ...planned };
  return {
    task: {
      gpuBatchSize: options.gpuBatchSize ?? gpuBatchSize,
      numGpuBatches: options.numGpuBatches ?? numGpuBatches,
      promptTokens: options.promptLen,
      newTokens: options.genLen,
      ...(options.cutGenLen !== undefined && { cutTokens: options.cutGenLen }),
    },
    percent: options.percent ?? percent,
  };
}

/** FlexGen's numbers, as near as whole percents come. */
function percentOf({ weights, host, kvPages, kvDisk, numGpuBatches, sweepChunks, hiddenOnDisk }: ExecutionPlan): number[] {
  const cache = kvDisk ? kvPages[0]! / (kvPages[0]! + numGpuBatches * kvDisk.bayPages[0]!) : 1;
  const hidden = 1 - hiddenOnDisk / (numGpuBatches * sweepChunks);
  const onGpu = host ? [weights.share, host.share, ...(host.bytes.kv > 0 ? [0, cache] : [cache, 0]), hidden, 0] : undefined;
  const shares = onGpu ?? [0, weights.share, 0, cache, 0, hidden];
  return shares.map((share) => Math.round(100 * share));
}

function logFileOf(options: BenchOptions, { task, percent }: Policy): string {
  if (options.logFile !== 'auto') return options.logFile;
  const { model, cpuCacheCompute = false, compressWeight = false, compressCache = false } = options;
  return logName({ ...task, model, percent, cpuCacheCompute, compressWeight, compressCache });
}

/** Asked before hours of work. */
async function checkFolder(file: string): Promise<void> {
  await access(dirname(file), constants.W_OK).catch((cause: unknown) => {
    throw new UsageError(`--log-file ${file}: its folder cannot be written to: ${reason(cause)}`, { file }, { cause });
  });
}

async function runBench(
  options: BenchOptions,
  policy: Policy,
  progress: Progress,
): Promise<{ report: BenchReport; texts: Measurement['texts'] }> {
  using interruption = onInterrupt(progress.say);
  const { signal } = interruption;
  const found = await findBenchModel(options.model, options.path);
  if (!found.dummy && found.name === options.model)
    progress.say(`${options.path}: there is no model of this name, so --model ${options.model} is opened as by other commands`);
  await using llm = await openModel(options, policy, found, { progress, signal });
  progress.plan(llm.plan);
  const measured = await measure(llm, policy.task, { signal });
  return { report: reportOf(llm, policy, found, measured), texts: measured.texts };
}

async function openModel(
  options: BenchOptions,
  { task, percent }: Policy,
  { name, dummy }: BenchModel,
  { progress, signal }: { readonly progress: Progress; readonly signal: AbortSignal },
): Promise<LLM> {
  const { device, mem, vram, gpus, disk, offloadDir, threads, trace, plan, planOut, attnSparsity } = options;
  const cachePositions = rowsOf(task) * Math.ceil((task.promptTokens + task.newTokens) / PAGE_POSITIONS) * PAGE_POSITIONS;
  const model = {
    model: name,
    dummy,
    device,
    compute: 'auto',
    gpuBatchSize: task.gpuBatchSize,
    numGpuBatches: task.numGpuBatches,
    sharePrefixes: false,
    dtype: options.compressWeight ? 'q4' : 'auto',
    kvType: options.compressCache ? 'g4' : 'auto',
    // The share of a plan is finer than a percentage.
    ...((options.percent !== undefined || plan === undefined) && { percent }),
    ...(options.overlap === false && { overlap: 'off' as const }),
    ...(attnSparsity !== undefined && { attnSparsity }),
    ...(mem !== undefined && { mem }),
    ...(disk !== undefined && { disk }),
    ...(offloadDir !== undefined && { offloadDir }),
    ...(vram !== undefined && { vram }),
    ...(gpus !== undefined && { gpus }),
    ...(threads !== undefined && { threads }),
    ...(trace !== undefined && { trace }),
    ...(plan !== undefined && { plan }),
    ...(planOut !== undefined && { planOut }),
  } as const;
  return loadModel(model, progress, signal, { cachePositions });
}

function reportOf({ info, shape, plan }: LLM, { task, percent }: Policy, { name, dummy }: BenchModel, measured: Measurement): BenchReport {
  return {
    model: name,
    weights: dummy ? 'random' : 'files',
    kernels: info.kernels,
    task,
    percent,
    attnSparsity: plan.attnSparsity,
    bytes: benchSizes(info.family, shape, task),
    peakBytes: { gpu: measured.peakGpuBytes, cpu: peakMemoryBytes(), disk: plan.weights.streamedBytes },
    ...figuresOf(task, measured),
  };
}

/** The summary for people, one fact per line. */
export function renderBench(report: BenchReport, logFile: string | undefined): string {
  const { task, bytes, peakBytes, seconds, tokensPerSecond } = report;
  const phase = (name: 'prefill' | 'decode' | 'total'): [string, string] => [
    name,
    `${formatSeconds(seconds[name])}, ${formatRate(tokensPerSecond[name])} tokens/s`,
  ];
  const cut = `yes: ${task.cutTokens} of ${task.newTokens} iterations were run`;
  return renderFacts([
    ['model', `${report.model}${report.weights === 'random' ? ', random weights' : ''}`],
    ['rows', `${task.gpuBatchSize} x ${task.numGpuBatches} of ${task.promptTokens} + ${task.newTokens} tokens`],
    ['kernels', report.kernels],
    ['attention', `values of ${report.attnSparsity < 1 ? `${percentText(report.attnSparsity)} of the` : 'all'} past positions`],
    ['model size', `${formatBytes(bytes.model)} in 16 bits`],
    ['cache size', `${formatBytes(bytes.cache)} in 16 bits`],
    ['hidden size', `${formatBytes(bytes.hidden)} in 16 bits`],
    ['peak memory', `GPU ${formatBytes(peakBytes.gpu)}, RAM ${formatBytes(peakBytes.cpu)}, weights on disk ${formatBytes(peakBytes.disk)}`],
    phase('prefill'),
    phase('decode'),
    phase('total'),
    ['projected', report.projected ? cut : 'no'],
    ['log', logFile ?? 'none'],
  ]);
}

/** Nothing where there is no tokenizer. */
function renderTexts([first, last]: Measurement['texts'], rows: number): string {
  if (first === '' && last === '') return '';
  return `\n${renderFacts([
    ['row 0', oneLine(first)],
    [`row ${rows - 1}`, oneLine(last)],
  ])}`;
}
