/** What the processor and its memory could do at best, measured with our kernels' own instructions. */
import { type Kernels, type Team, viewOf } from '../src/native/kernels.ts';
import { median } from './figure.ts';

export interface Peaks {
  /** Operations a second; multiply and add count as two. */
  readonly integers: number;
  readonly floats: number;
  readonly bfloats: number;
}

/** More bytes than any cache has. */
export const COLD_BYTES: number = 256 << 20;
const PEAK_ROUNDS = 2_000_000;

export function measurePeaks(kernels: Kernels, threads: number, rounds: number): Peaks {
  const team = kernels.teamCreate(threads)!;
  try {
    const peak = (kind: number): number =>
      median(
        repeat(rounds, () => {
          let operations = 0;
          const took = secondsOf(() => (operations = kernels.operations(team, kind, threads, PEAK_ROUNDS)));
          return operations / took;
        }),
      );
    return { integers: peak(1), floats: peak(0), bfloats: peak(2) };
  } finally {
    kernels.teamFree(team);
  }
}

/** Bytes a second that all threads together read. */
export function measureMemory(kernels: Kernels, threads: number, rounds: number): number {
  const team: Team = kernels.teamCreate(threads)!;
  const memory = kernels.memoryCreate(COLD_BYTES)!;
  try {
    viewOf(memory, COLD_BYTES).fill(1); // memory that was never written is one page of zeros
    const read = (): number => COLD_BYTES / secondsOf(() => kernels.read(team, memory, COLD_BYTES));
    read();
    return median(repeat(rounds, read));
  } finally {
    kernels.memoryFree(memory);
    kernels.teamFree(team);
  }
}

const repeat = (count: number, measure: () => number): number[] => Array.from({ length: count }, measure);

function secondsOf(work: () => void): number {
  const began = performance.now();
  work();
  return (performance.now() - began) / 1000;
}
