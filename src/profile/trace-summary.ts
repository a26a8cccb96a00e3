import { LANES, type LaneTotals } from '../util/lanes.ts';
import type { Trace } from './chrome-trace.ts';
import { byLane, unionMs } from './lane-rows.ts';

export interface TraceSummary {
  /** Where the first event begins and the last one ends, in milliseconds since the log began. */
  readonly startMs: number;
  readonly endMs: number;
  /** Of lanes that have events. */
  readonly lanes: readonly LaneTotals[];
}

export function summarizeTrace({ events }: Trace): TraceSummary {
  let startMs = Infinity;
  let endMs = 0;
  for (const event of events) {
    startMs = Math.min(startMs, event.startMs);
    endMs = Math.max(endMs, event.endMs);
  }
  const grouped = byLane(events);
  const lanes = LANES.flatMap((lane): LaneTotals[] => {
    const own = grouped.get(lane);
    if (!own) return [];
    return [{ lane, busySeconds: unionMs(own) / 1000, bytes: own.reduce((sum, { bytes }) => sum + bytes, 0), pieces: own.length }];
  });
  return { startMs: Math.min(startMs, endMs), endMs, lanes };
}
