import type { LaneEvent } from '../../src/util/lanes.ts';

/** One finished piece of work. */
export const event = (lane: LaneEvent['lane'], startMs: number, endMs: number, name = 'x', bytes = 0): LaneEvent => ({
  lane,
  name,
  bytes,
  startMs,
  endMs,
});
