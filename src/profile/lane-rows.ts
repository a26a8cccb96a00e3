import type { LaneEvent, LaneName } from '../util/lanes.ts';

type Interval = Pick<LaneEvent, 'startMs' | 'endMs'>;

export const byStart = (a: Interval, b: Interval): number => a.startMs - b.startMs || a.endMs - b.endMs;

/** Events of each lane, in the order of their beginnings. */
export function byLane(events: readonly LaneEvent[]): Map<LaneName, LaneEvent[]> {
  const lanes = new Map<LaneName, LaneEvent[]>();
  for (const event of events.toSorted(byStart)) {
    const lane = lanes.get(event.lane);
    if (lane) lane.push(event);
    else lanes.set(event.lane, [event]);
  }
  return lanes;
}

/**
 * Distributes events over rows so that none overlaps another of its row, with as few rows as possible.
 * @param sorted by their beginnings
 * @param most rows; beyond, events overlap in the row that is free first
 */
export function assignRows<T extends Interval>(sorted: readonly T[], most = Infinity): T[][] {
  const rows: T[][] = [];
  const ends: number[] = [];
  for (const event of sorted) {
    let row = ends.findIndex((end) => end <= event.startMs);
    if (row < 0) row = rows.length < most ? rows.push([]) - 1 : ends.indexOf(Math.min(...ends));
    rows[row]!.push(event);
    ends[row] = Math.max(ends[row] ?? -Infinity, event.endMs);
  }
  return rows;
}

/** Milliseconds in which at least one of the events was in progress. */
export function unionMs(sorted: readonly Interval[]): number {
  let busy = 0;
  let until = -Infinity;
  for (const { startMs, endMs } of sorted) {
    busy += Math.max(0, endMs - Math.max(until, startMs));
    until = Math.max(until, endMs);
  }
  return busy;
}
