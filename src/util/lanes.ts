/** Where time goes: data moves in lanes, and each lane does one kind of work. */

/** One kind of work. */
export type LaneName = 'disk read' | 'upload' | 'compute' | 'download' | 'disk write';

/** In the order in which data passes. */
export const LANES: readonly LaneName[] = ['disk read', 'upload', 'compute', 'download', 'disk write'];

/** What a lane has done since the log began. */
export interface LaneTotals {
  readonly lane: LaneName;
  /** Seconds in which at least one piece was in progress, however many there were. */
  readonly busySeconds: number;
  /** Moved by finished pieces; 0 of lanes that do not move any. */
  readonly bytes: number;
  /** Finished ones. */
  readonly pieces: number;
}

/** One finished piece of work. */
export interface LaneEvent {
  readonly lane: LaneName;
  readonly name: string;
  readonly bytes: number;
  /** Milliseconds since the log began. */
  readonly startMs: number;
  readonly endMs: number;
}

export interface LaneLogOptions {
  /** Clock in milliseconds that never goes back. Default `performance.now`. */
  readonly now?: () => number;
  /** Most single events to keep, the latest ones. Default 0: totals only. */
  readonly keepEvents?: number;
}

/** 45 MB of memory and 25 MB of a file, which viewers of traces still open at once; hours of a large model, minutes of a tiny one. */
export const MAX_LANE_EVENTS = 200_000;

interface LaneState {
  running: number;
  /** When `running` left 0. */
  busySinceMs: number;
  busyMs: number;
  bytes: number;
  pieces: number;
}

export class LaneLog {
  readonly #now: () => number;
  readonly #beganMs: number;
  readonly #keepEvents: number;
  readonly #states = new Map<LaneName, LaneState>(
    LANES.map((lane) => [lane, { running: 0, busySinceMs: 0, busyMs: 0, bytes: 0, pieces: 0 }]),
  );
  /** A ring once it is full. */
  readonly #events: LaneEvent[] = [];
  #oldest = 0;
  #dropped = 0;

  constructor({ now = () => performance.now(), keepEvents = 0 }: LaneLogOptions = {}) {
    this.#now = now;
    this.#keepEvents = keepEvents;
    this.#beganMs = now();
  }

  /** A piece of work begins. Pieces of one lane may overlap. @returns what to call when it has ended; later calls do nothing */
  start(lane: LaneName, name: string, bytes = 0): () => void {
    const state = this.#states.get(lane)!;
    const startMs = this.#now();
    if (state.running++ === 0) state.busySinceMs = startMs;
    let ended = false;
    return () => {
      if (ended) return;
      ended = true;
      const endMs = this.#now();
      if (--state.running === 0) state.busyMs += endMs - state.busySinceMs;
      state.bytes += bytes;
      state.pieces++;
      if (this.#keepEvents > 0) this.#keep({ lane, name, bytes, startMs: startMs - this.#beganMs, endMs: endMs - this.#beganMs });
    };
  }

  /** Of all lanes, in their order. */
  totals(): LaneTotals[] {
    const now = this.#now();
    return LANES.map((lane) => {
      const { running, busySinceMs, busyMs, bytes, pieces } = this.#states.get(lane)!;
      return { lane, busySeconds: (busyMs + (running > 0 ? now - busySinceMs : 0)) / 1000, bytes, pieces };
    });
  }

  /** Kept ones, in the order in which they ended. */
  events(): LaneEvent[] {
    return [...this.#events.slice(this.#oldest), ...this.#events.slice(0, this.#oldest)];
  }

  /** Events that later ones have displaced. */
  get droppedEvents(): number {
    return this.#dropped;
  }

  #keep(event: LaneEvent): void {
    if (this.#events.length < this.#keepEvents) {
      this.#events.push(event);
      return;
    }
    this.#events[this.#oldest] = event;
    this.#oldest = (this.#oldest + 1) % this.#keepEvents;
    this.#dropped++;
  }
}

/** The lane that was busy longest: the others wait for it. */
export function busiestLane(lanes: readonly LaneTotals[]): LaneName | undefined {
  const used = lanes.filter(({ busySeconds }) => busySeconds > 0);
  return used.toSorted((a, b) => b.busySeconds - a.busySeconds)[0]?.lane;
}
