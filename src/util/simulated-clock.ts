/** Time without waiting, to work out how long something would take. */
import { internalError } from './errors.ts';

interface Alarm {
  readonly at: number;
  readonly ring: () => void;
}

/** A clock that stands still while anything goes on, and then goes on to the next moment that somebody waits for. */
export class SimulatedClock {
  #now = 0;
  /** Earliest first; of equal ones, in the order in which they were set. */
  readonly #alarms: Alarm[] = [];

  /** Seconds since the clock was made. */
  get now(): number {
    return this.#now;
  }

  /** Resolves when it is `seconds`, at once if it is later. */
  async until(seconds: number): Promise<void> {
    if (seconds <= this.#now) return;
    await new Promise<void>((ring) => {
      const index = this.#alarms.findLastIndex(({ at }) => at <= seconds);
      this.#alarms.splice(index + 1, 0, { at: seconds, ring });
    });
  }

  /** Resolves `seconds` later. */
  sleep(seconds: number): Promise<void> {
    return this.until(this.#now + seconds);
  }

  /**
   * Lets time pass until `work` has settled. All that it does must wait for this clock alone: what else it waits for counts as something that never happens.
   * @throws what `work` threw; {FlexError} `internal` when it waits and nothing will happen any more
   */
  async run<T>(work: PromiseLike<T>): Promise<T> {
    let settled = false;
    const end = (): void => void (settled = true);
    work.then(end, end);
    for (;;) {
      await new Promise(setImmediate); // everything that can go on has done so
      if (settled) return work;
      const alarm = this.#alarms.shift();
      if (!alarm) throw internalError(`at ${this.#now} s, everything waits and nothing will happen`);
      this.#now = alarm.at;
      alarm.ring();
    }
  }
}

/** Serves a few at a time, whoever came first. */
export class SimulatedLane {
  readonly #clock: SimulatedClock;
  /** When each place will be free. */
  readonly #free: number[];

  /** `places`: how many are served at a time. */
  constructor(clock: SimulatedClock, places: number) {
    this.#clock = clock;
    this.#free = Array.from({ length: places }, () => 0);
  }

  /** Resolves when it has been served, which takes `seconds` from the moment on at which there is a place. */
  use(seconds: number): Promise<void> {
    const first = this.#free.indexOf(Math.min(...this.#free));
    const end = Math.max(this.#clock.now, this.#free[first]!) + seconds;
    this.#free[first] = end;
    return this.#clock.until(end);
  }
}
