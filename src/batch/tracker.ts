import type { RunStats } from '../requests.ts';
import { peakMemoryBytes } from '../util/machine.ts';
import type { SavedRows } from './journal.ts';
import type { JobOptions, JobPhase, JobRows, JobSummary } from './types.ts';

/** Counts of a job while it runs. */
export interface JobTracker {
  readonly enter: (phase: JobPhase) => void;
  /** Rows of the input, those of them that are done before anything is generated, and a look at those that this run has saved. */
  readonly count: (before: JobRows, saved?: () => SavedRows) => void;
  readonly sweep: (stats: RunStats) => void;
  readonly rows: () => JobRows;
  readonly summary: (kernels: string) => JobSummary;
}

const NO_ROWS: JobRows = { total: 0, done: 0, failed: 0, reused: 0 };

export function trackJob(onProgress: JobOptions['onProgress']): JobTracker {
  const began = performance.now();
  let phase: JobPhase = 'reading';
  let before = NO_ROWS;
  let saved = (): SavedRows => ({ done: 0, failed: 0 });
  let stats: RunStats | undefined;
  const seconds = (): number => (performance.now() - began) / 1000;
  const rows = (): JobRows => {
    const now = saved();
    return { ...before, done: before.done + now.done, failed: before.failed + now.failed };
  };
  const report = (): void => onProgress?.({ phase, rows: rows(), seconds: seconds(), ...(stats && { stats }) });
  return {
    rows,
    enter: (next) => {
      phase = next;
      report();
    },
    count: (found, look) => {
      before = found;
      if (look !== undefined) saved = look;
      report();
    },
    sweep: (latest) => {
      stats = latest;
      report();
    },
    summary: (kernels) => summarize(rows(), stats, seconds(), kernels),
  };
}

function summarize(rows: JobRows, stats: RunStats | undefined, total: number, kernels: string): JobSummary {
  const { load = 0, prefill = 0, decode = 0 } = stats?.seconds ?? {};
  const { prompt = 0, promptComputed = 0, promptShared = 0, generated = 0 } = stats?.tokens ?? {};
  const rate = (tokens: number): number => (prefill + decode > 0 ? tokens / (prefill + decode) : 0);
  return {
    rows,
    tokens: { prompt, promptComputed, promptShared, generated },
    seconds: { load, prefill, decode, total },
    tokensPerSecond: { generated: rate(generated), total: rate(prompt + generated) },
    // Nothing of a job lies on disk yet, beside its own files.
    peakBytes: { cpu: peakMemoryBytes(), gpu: stats?.peakGpuBytes ?? 0, disk: 0 },
    kernels,
    lanes: stats?.lanes ?? [],
  };
}
