import type { JobProgress } from '../batch/types.ts';
import type { VerifyProgress } from '../convert/verify.ts';
import type { PreparationProgress } from '../llm/named-source.ts';
import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { formatBytes, formatCount, formatRate, formatSeconds } from '../util/units.ts';
import { planText } from './plan-text.ts';
import { oneLine } from './render.ts';

/** `line` rewrites one line of a terminal, `json` writes a line of JSON per second, `off` is silent. */
export type ProgressMode = 'line' | 'json' | 'off';

export interface ProgressOptions {
  readonly mode: ProgressMode;
  readonly write: (text: string) => void;
  /** Milliseconds. */
  readonly now: () => number;
  /** Bytes in use. */
  readonly memory: () => number;
  /** Columns of the terminal; read for each line, since windows are resized. */
  readonly columns: () => number;
}

export interface Progress {
  readonly update: (progress: JobProgress) => void;
  /** A message above the progress line. */
  readonly say: (message: string) => void;
  /** The memory that will be used, before it is. */
  readonly plan: (plan: ExecutionPlan) => void;
  /** A model is fetched, or written in another form. */
  readonly preparation: (progress: PreparationProgress) => void;
  /** A file is compared with its checksums. */
  readonly verification: (progress: VerifyProgress) => void;
  /** Removes the line, and writes the last state as JSON. */
  readonly end: () => void;
}

/** What a line of JSON says. */
export interface ProgressReport {
  readonly type: 'progress';
  readonly phase: JobProgress['phase'];
  readonly rows: JobProgress['rows'];
  readonly tokens: { readonly prompt: number; readonly generated: number };
  readonly tokensPerSecond: { readonly generated: number; readonly total: number };
  readonly seconds: number;
  /** Missing while there is nothing to go by. */
  readonly etaSeconds?: number;
  readonly memoryBytes: number;
}

const LINE_EVERY_MS = 200;
const JSON_EVERY_MS = 1000;
const ERASE_LINE = '\r\u001b[K';

/** The mode that flags and terminal ask for. */
export function progressMode(options: { readonly json?: boolean; readonly quiet?: boolean }, stderrIsTerminal: boolean): ProgressMode {
  if (options.quiet) return 'off';
  if (options.json) return 'json';
  return stderrIsTerminal ? 'line' : 'off';
}

/** Progress on standard error. */
export function stderrProgress(options: { readonly json?: boolean; readonly quiet?: boolean }): Progress {
  return createProgress({
    mode: progressMode(options, process.stderr.isTTY),
    write: (text) => void process.stderr.write(text),
    now: () => performance.now(),
    memory: () => process.memoryUsage.rss(),
    // A terminal that does not know its size says 0.
    columns: () => process.stderr.columns || 80,
  });
}

export function createProgress(options: ProgressOptions): Progress {
  const { mode, write } = options;
  const every = mode === 'json' ? JSON_EVERY_MS : LINE_EVERY_MS;
  let latest: JobProgress | undefined;
  let shown: JobProgress | undefined;
  let shownAt = -Infinity;
  const show = (): void => {
    if (!latest || latest === shown) return;
    const report = reportOf(latest, options.memory());
    if (mode === 'json') write(`${JSON.stringify(report)}\n`);
    // One column is left free: a character in the last one makes some terminals wrap.
    else write(ERASE_LINE + progressLine(report).slice(0, Math.max(20, options.columns() - 1)));
    shown = latest;
    shownAt = options.now();
  };
  /** A state of something else than rows. */
  const pass = (type: string, facts: object, bytes: { done: number; total: number }, line: () => string): void => {
    if (mode === 'off' || (options.now() - shownAt < every && bytes.done < bytes.total)) return;
    shownAt = options.now();
    if (mode === 'json') write(`${JSON.stringify({ type, ...facts })}\n`);
    else write(ERASE_LINE + line().slice(0, Math.max(20, options.columns() - 1)));
  };
  return {
    update: (progress) => {
      if (mode === 'off') return;
      const due = options.now() - shownAt >= every || progress.phase !== latest?.phase;
      latest = progress;
      if (due) show();
    },
    say: (message) => {
      if (mode === 'json') write(`${JSON.stringify({ type: 'message', message })}\n`);
      else write(`${mode === 'line' ? ERASE_LINE : ''}${oneLine(message)}\n`);
    },
    plan: (plan) => {
      if (mode === 'json') write(`${JSON.stringify({ type: 'plan', plan })}\n`);
      else if (mode === 'line') write(`${ERASE_LINE}${planText(plan)}\n`);
    },
    preparation: (progress) => pass(progress.what, progress, progress.bytes, () => preparationLine(progress)),
    verification: (progress) =>
      pass('verification', progress, progress, () => `verifying: ${formatBytes(progress.done)} of ${formatBytes(progress.total)}`),
    end: () => {
      if (mode === 'json') show();
      else if (mode === 'line') write(ERASE_LINE);
    },
  };
}

export function reportOf(progress: JobProgress, memoryBytes: number): ProgressReport {
  const { phase, rows, stats, seconds } = progress;
  const { prompt, generated } = stats?.tokens ?? { prompt: 0, generated: 0 };
  const computing = stats ? stats.seconds.prefill + stats.seconds.decode : 0;
  const rate = (tokens: number): number => (computing > 0 ? tokens / computing : 0);
  const answered = rows.done + rows.failed - rows.reused;
  const left = rows.total - rows.done - rows.failed;
  const known = phase === 'generating' && answered > 0;
  return {
    type: 'progress',
    phase,
    rows,
    tokens: { prompt, generated },
    tokensPerSecond: { generated: rate(generated), total: rate(prompt + generated) },
    seconds,
    ...(known && { etaSeconds: (computing / answered) * left }),
    memoryBytes,
  };
}

/** Such as `converting: 1.2 GB of 2.5 GB  310 MB/s  4.2 s left`. */
function preparationLine({ what, bytes, seconds }: PreparationProgress): string {
  const rate = seconds > 0 ? (bytes.done - bytes.reused) / seconds : 0;
  const parts = [`${what === 'download' ? 'fetching' : 'converting'}: ${formatBytes(bytes.done)} of ${formatBytes(bytes.total)}`];
  if (rate > 0) parts.push(`${formatBytes(rate)}/s`, `${formatSeconds((bytes.total - bytes.done) / rate)} left`);
  return parts.join('  ');
}

/** Such as `120/560 rows  1,234 tokens/s (3,456 with prompts)  8.2 s left  212 MB`. */
export function progressLine(report: ProgressReport): string {
  const { phase, rows, tokensPerSecond: rate, etaSeconds, memoryBytes } = report;
  if (phase === 'reading') return `reading: ${formatCount(rows.total)} rows`;
  if (phase === 'loading') return 'loading the model';
  if (phase === 'writing') return 'writing the result';
  const parts = [`${formatCount(rows.done + rows.failed)}/${formatCount(rows.total)} rows`];
  if (rows.failed > 0) parts.push(`${formatCount(rows.failed)} failed`);
  parts.push(`${formatRate(rate.generated)} tokens/s (${formatRate(rate.total)} with prompts)`);
  if (etaSeconds !== undefined) parts.push(`${formatSeconds(etaSeconds)} left`);
  parts.push(formatBytes(memoryBytes));
  return parts.join('  ');
}
