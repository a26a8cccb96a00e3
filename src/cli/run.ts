import { resolve } from 'node:path';
import { runJob } from '../batch/job.ts';
import type { LLM } from '../llm.ts';
import type { JobOutcome, JobSummary } from '../batch/types.ts';
import { UsageError } from '../util/errors.ts';
import { busiestLane, type LaneTotals } from '../util/lanes.ts';
import { formatBytes, formatCount, formatRate, formatSeconds } from '../util/units.ts';
import { onInterrupt } from './interrupt.ts';
import { loadModel, modelIdentity } from './model.ts';
import { generationParams } from './options.ts';
import type { RunOptions } from './program.ts';
import { stderrProgress, type Progress } from './progress.ts';
import { renderFacts } from './render.ts';

/** `flexllmgen run` */
export async function run(options: RunOptions): Promise<number> {
  const progress = stderrProgress(options);
  try {
    const outcome = await runTable(options, progress, (llm) => warnOfPrompt(options, llm, progress));
    progress.end();
    if (outcome.notice !== undefined && !options.quiet) progress.say(outcome.notice);
    if (options.json) process.stdout.write(`${JSON.stringify(outcome.summary)}\n`);
    else if (!options.quiet) process.stdout.write(renderSummary(outcome.summary));
    return outcome.exitCode;
  } catch (error) {
    progress.end();
    throw error;
  }
}

/** A prompt without the words that a model of conversations was trained on gives poor answers, which nobody would understand. */
function warnOfPrompt({ prompt, quiet }: RunOptions, llm: LLM, progress: Progress): void {
  if (prompt === undefined || quiet || !llm.hasChatTemplate) return;
  progress.say('this model was trained on conversations; --user in place of --prompt puts the text into its chat template');
}

/**
 * The job itself, under the flags of a command, until it ends or is interrupted.
 * @param onModel sees the model when it is open, which it may never be
 */
export async function runTable(
  options: Omit<RunOptions, 'json' | 'quiet'>,
  progress: Progress,
  onModel: (llm: LLM) => void = () => {},
): Promise<JobOutcome> {
  const { input, output, prompt, system, user, column, format, force, restart, retryFailed } = options;
  checkOutputApart(options);
  using interruption = onInterrupt(progress.say);
  return await runJob(
    {
      input,
      output,
      params: generationParams(options),
      generator: modelIdentity(options),
      stdin: process.stdin,
      signal: interruption.signal,
      abortSignal: interruption.abortSignal,
      onProgress: progress.update,
      ...(prompt !== undefined && { prompt }),
      ...(system !== undefined && { system }),
      ...(user !== undefined && { user }),
      ...(column !== undefined && { column }),
      ...(format !== undefined && { format }),
      ...(force !== undefined && { force }),
      ...(restart !== undefined && { restart }),
      ...(retryFailed !== undefined && { retryFailed }),
    },
    async (rows) => {
      const llm = await loadModel(options, progress, interruption.signal, { rows });
      progress.plan(llm.plan);
      onModel(llm);
      return llm;
    },
  );
}

/** What a flag writes would be lost in the table, or the table in it. */
function checkOutputApart({ output, trace, planOut }: Pick<RunOptions, 'output' | 'trace' | 'planOut'>): void {
  for (const [flag, path] of [['--trace', trace] as const, ['--plan-out', planOut] as const])
    if (path !== undefined && resolve(path) === resolve(output))
      throw new UsageError(`${flag} ${path}: is the output; choose another name`);
}

/** What is lost where ggml computes on the processor; GPUs have no kernels but its. */
const WITHOUT_OWN_KERNELS = ' (own kernels are not used: large batches take several times as long; flexllmgen doctor says why)';

/** The summary for people, one fact per line. */
export function renderSummary(summary: JobSummary): string {
  const { rows, tokens, seconds, tokensPerSecond: rate, peakBytes, kernels } = summary;
  const also = [
    rows.failed > 0 && `${formatCount(rows.failed)} failed`,
    rows.reused > 0 && `${formatCount(rows.reused)} from an earlier run`,
  ];
  const extra = also.filter((part) => part !== false).map((part) => `, ${part}`);
  const facts: [string, string][] = [['rows', `${formatCount(rows.done)} of ${formatCount(rows.total)}${extra.join('')}`]];
  if (tokens.generated > 0) {
    const shared = tokens.promptShared > 0 ? `, ${formatCount(tokens.promptShared)} of them shared` : '';
    facts.push(
      ['tokens', `${formatCount(tokens.generated)} generated, ${formatCount(tokens.prompt)} in prompts${shared}`],
      ['tokens/s', `${formatRate(rate.generated)} generated, ${formatRate(rate.total)} with prompts`],
    );
  }
  const parts = `load ${formatSeconds(seconds.load)}, prefill ${formatSeconds(seconds.prefill)}, decode ${formatSeconds(seconds.decode)}`;
  facts.push(['time', `${formatSeconds(seconds.total)} (${parts})`], ['peak memory', formatBytes(peakBytes.cpu)]);
  if (kernels !== '') facts.push(['kernels', `${kernels}${kernels.startsWith('ggml cpu') ? WITHOUT_OWN_KERNELS : ''}`]);
  const lanes = laneText(summary);
  if (lanes !== undefined) facts.push(['lanes', lanes]);
  return renderFacts(facts);
}

/** Nothing where only computing was logged, which waits for nothing then. */
function laneText({ lanes, seconds }: JobSummary): string | undefined {
  if (lanes.every(({ lane }) => lane === 'compute')) return undefined;
  const busiest = busiestLane(lanes);
  const text = ({ lane, busySeconds, bytes }: LaneTotals): string => {
    const parts = [`${lane} ${Math.round((100 * busySeconds) / seconds.total)} % busy`];
    if (bytes > 0 && busySeconds > 0) parts.push(formatBytes(bytes), `${formatBytes(bytes / busySeconds)}/s`);
    return `${parts.join(', ')}${lane === busiest ? ' (bottleneck)' : ''}`;
  };
  const compute = lanes.filter(({ lane }) => lane === 'compute');
  return [...compute, ...lanes.filter(({ lane }) => lane !== 'compute')].map(text).join('; ');
}
