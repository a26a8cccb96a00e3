/**
 * How many threads compute. ggml's threads wait for each other in loops between every two operations, so when another program takes a core
 * away from one of them, all others burn their time: two busy neighbours on two cores made a job some twenty times slower, one thread instead of
 * two makes it hardly slower than its fair share (docs/decisions/0003-threads-follow-load.md). The processor time that was really had
 * tells whether cores are missing.
 */
export class ThreadGovernor {
  readonly #most: number;
  #threads: number;
  #wall = 0;
  #processor = 0;
  #hold: number = FIRST_HOLD_SECONDS;
  #rest = 0;

  /** Starts with, and never exceeds, `most` threads. */
  constructor(most: number) {
    this.#most = most;
    this.#threads = most;
  }

  /** For the next graph. */
  get threads(): number {
    return this.#threads;
  }

  /** What a graph took: seconds on the clock, and seconds of processor time of all threads together. */
  record(wallSeconds: number, processorSeconds: number): void {
    if (this.#most === 1) return;
    if (this.#threads < this.#most) {
      this.#rest -= wallSeconds;
      if (this.#rest > 0) return;
      this.#threads = this.#most;
      return this.#restart();
    }
    this.#wall += wallSeconds;
    this.#processor += processorSeconds;
    if (this.#wall < WINDOW_SECONDS) return;
    const share = this.#processor / (this.#wall * this.#threads);
    if (share < ENOUGH_SHARE) this.#stepDown(share);
    else this.#hold = FIRST_HOLD_SECONDS;
    this.#restart();
  }

  #stepDown(share: number): void {
    this.#threads = Math.max(1, Math.min(this.#most - 1, Math.floor(this.#most * share)));
    this.#rest = this.#hold;
    this.#hold = Math.min(this.#hold * 2, LONGEST_HOLD_SECONDS);
  }

  #restart(): void {
    this.#wall = 0;
    this.#processor = 0;
  }
}

/** Long enough to see over a scheduler's slice, and a clock of processor time that lags behind, of some milliseconds each. */
const WINDOW_SECONDS = 0.2;
/** On two cores of a quiet virtual machine, 0.80 to 1 was seen; with one busy neighbour 0.50 to 0.76, with two 0.37 to 0.50. */
const ENOUGH_SHARE = 0.65;
/** How long fewer threads are kept before all are tried again; doubles while cores stay missing. */
const FIRST_HOLD_SECONDS = 1;
const LONGEST_HOLD_SECONDS = 16;
