/** A job whose weights do not all stay in memory, and what it did. */
import type { ExecutionPlan } from '../src/engine/execution-plan.ts';
import type { KvType } from '../src/tensor/dtype.ts';

export interface OffloadCase {
  readonly file: string;
  readonly rows: number;
  /** Micro-batches that the rows are dealt out to. Default 1. */
  readonly batches?: number;
  readonly promptTokens: number;
  readonly generated: number;
  /** The job ends after so many sweeps without prompt tokens. Default: when it is done. */
  readonly decodeSweeps?: number;
  readonly percent?: readonly number[];
  readonly memoryBytes?: number;
  readonly kvType?: KvType;
  readonly overlap?: boolean;
  /** Measures what the disk does alone between sweeps, over so many bytes of the file. */
  readonly diskAloneBytes?: number;
}

export interface OffloadSweep {
  readonly seconds: number;
  /** That the system counted. */
  readonly diskBytes: number;
  readonly promptTokens: number;
  readonly generatedTokens: number;
  /** Bytes a second of the disk alone, right before and right behind the sweep. */
  readonly diskAlone?: readonly [number, number];
}

export interface OffloadRun {
  /** As many of the wanted ones as the cache has room for. */
  readonly rows: number;
  /** Since the model was opened. */
  readonly totalSeconds: number;
  readonly sweeps: readonly OffloadSweep[];
  /** Busy seconds, since the model was opened. */
  readonly lanes: Readonly<Record<string, number>>;
  /** Share of the time that JavaScript ran. */
  readonly loop: number;
  readonly peakBytes: number;
  readonly planned: ExecutionPlan['bytes'];
  readonly weights: ExecutionPlan['weights'];
}

const sum = (values: readonly number[]): number => values.reduce((a, b) => a + b, 0);

export const secondsOf = ({ sweeps }: OffloadRun): number => sum(sweeps.map(({ seconds }) => seconds));

/** Sweeps without prompt tokens. */
export const decodeSweeps = ({ sweeps }: OffloadRun): readonly OffloadSweep[] => sweeps.filter(({ promptTokens }) => promptTokens === 0);

/** Tokens a second, prompts included, when all rows generate `generated` tokens: decode sweeps that were left out take as long as the measured ones. */
export function projectedRate(run: OffloadRun, rows: number, promptTokens: number, generated: number): number {
  const prefill = run.sweeps.filter((sweep) => sweep.promptTokens > 0);
  const decode = decodeSweeps(run);
  const each = sum(decode.map(({ seconds }) => seconds)) / decode.length;
  // Every sweep of the whole job gives each row that has its prompt one token.
  return (rows * (promptTokens + generated)) / (sum(prefill.map(({ seconds }) => seconds)) + each * (generated - 1));
}
