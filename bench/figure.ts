import type { StorageType } from '../src/weights/storage-type.ts';
import os from 'node:os';
import { processorFacts } from '../src/util/machine.ts';

/** One measured number. */
export interface Figure {
  readonly bench: string;
  readonly case: string;
  /** Median over the rounds. */
  readonly value: number;
  readonly unit: string;
  /** What this machine could do at best, in the same unit, measured in the same rounds (their median); null where there is no such bound. */
  readonly limit: number | null;
  /** Median of value / limit over the rounds: both swing together on a machine that others use too. */
  readonly share: number | null;
  readonly rounds: number;
  readonly machine: string;
}

export interface BenchOptions {
  /** Type of the weights. Default `auto`. */
  readonly dtype?: StorageType;
  readonly rounds: number;
  /** Names of ACCURACY_TYPES. Default all. */
  readonly types?: readonly string[];
  readonly models?: readonly string[];
  readonly blocks?: readonly number[];
}

export type Bench = (options: BenchOptions) => AsyncGenerator<Figure, void, void>;

interface Measured {
  readonly bench: string;
  readonly case: string;
  readonly unit: string;
  /** One a round. */
  readonly values: readonly number[];
  /** One a round, or one for all. */
  readonly limit?: number | readonly number[];
}

export function figure({ bench, case: name, unit, values, limit }: Measured): Figure {
  const limits = typeof limit === 'number' ? values.map(() => limit) : limit;
  return {
    bench,
    case: name,
    value: median(values),
    unit,
    limit: limits ? median(limits) : null,
    share: limits ? median(values.map((value, round) => value / limits[round]!)) : null,
    rounds: values.length,
    machine: machineName(),
  };
}

export function printFigure(one: Figure, json: boolean): void {
  if (json)
    return console.log(
      JSON.stringify({ ...one, value: round(one.value), limit: one.limit && round(one.limit), share: one.share && round(one.share) }),
    );
  const share = one.share === null ? '' : `  ${Math.round(100 * one.share)} % of ${round(one.limit!)}`;
  console.log(`${one.bench.padEnd(12)} ${one.case.padEnd(44)} ${String(round(one.value)).padStart(9)} ${one.unit}${share}`);
}

export function median(values: readonly number[]): number {
  const sorted = values.toSorted((a, b) => a - b);
  const middle = sorted.length >> 1;
  return sorted.length % 2 === 1 ? sorted[middle]! : (sorted[middle - 1]! + sorted[middle]!) / 2;
}

/** Processor and threads, no names of hosts. */
function machineName(): string {
  return `${os.cpus()[0]?.model.trim() ?? process.arch}, ${processorFacts().threads} threads`;
}

const round = (value: number): number => Number(value.toPrecision(4));
