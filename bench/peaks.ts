/** What the processor and its memory could do at best, measured with our kernels' own instructions. */
import { readFileSync } from 'node:fs';
import { type Address, type Kernels, type Team, viewOf } from '../src/native/kernels.ts';
import { median } from './figure.ts';

/** Instructions that products are made of, as `flx_operations` numbers them. */
const KINDS = { floats: 0, integers: 1, bfloats: 2, byteTiles: 3, bfloatTiles: 4 } as const;
export type PeakKind = keyof typeof KINDS;

/** Twice of it is still less than 2 GiB, which is as much as one buffer holds. */
const MOST_COLD_BYTES = 1000 << 20;
/** Twice as many bytes as the largest cache has, where Linux tells it: what is read once, between other works, comes from memory. */
export const COLD_BYTES: number = Math.min(Math.max(256 << 20, 2 * largestCache()), MOST_COLD_BYTES);
/** What is read again and again, which a cache might keep a part of. */
const READ_BYTES = 2 * COLD_BYTES;
const PEAK_ROUNDS = 500_000;
/** Processors that rested are slower for so long. */
const WARM_UP_MS = 100;
/** The median of so many, one after another. */
const REPEATS = 5;

/** Measures when asked: other users of a machine take a share of it that changes by the second. */
export class Peaks implements Disposable {
  readonly #kernels: Kernels;
  readonly #threads: number;
  readonly #team: Team;
  readonly #memory: Address;

  constructor(kernels: Kernels, threads: number) {
    this.#kernels = kernels;
    this.#threads = threads;
    this.#team = kernels.teamCreate(threads)!;
    this.#memory = kernels.memoryCreate(READ_BYTES)!;
    viewOf(this.#memory, READ_BYTES).fill(1); // memory that was never written is one page of zeros
  }

  /** Operations a second; multiply and add count as two. */
  operations(kind: PeakKind): number {
    return repeat(() => {
      let operations = 0;
      const took = secondsOf(() => (operations = this.#kernels.operations(this.#team, KINDS[kind], this.#threads, PEAK_ROUNDS)));
      return operations / took;
    });
  }

  /** Bytes a second that all threads together read. */
  memory(): number {
    return repeat(() => READ_BYTES / secondsOf(() => this.#kernels.read(this.#team, this.#memory, READ_BYTES)));
  }

  [Symbol.dispose](): void {
    this.#kernels.memoryFree(this.#memory);
    this.#kernels.teamFree(this.#team);
  }
}

/** Bytes, rounded up to whole MiB; 0 where they are unknown. */
function largestCache(): number {
  try {
    const kibibytes = Number.parseInt(readFileSync('/sys/devices/system/cpu/cpu0/cache/index3/size', 'latin1'), 10); // "491520K"
    return Number.isFinite(kibibytes) ? Math.ceil(kibibytes / 1024) * 2 ** 20 : 0;
  } catch {
    return 0;
  }
}

function repeat(measure: () => number): number {
  for (const began = performance.now(); performance.now() < began + WARM_UP_MS;) measure();
  return median(Array.from({ length: REPEATS }, measure));
}

function secondsOf(work: () => void): number {
  const began = performance.now();
  work();
  return (performance.now() - began) / 1000;
}
