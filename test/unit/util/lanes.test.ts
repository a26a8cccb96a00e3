import { describe, expect, it } from 'vitest';
import { busiestLane, LaneLog, LANES } from '../../../src/util/lanes.ts';

function logAt(keepEvents = 0) {
  const clock = { ms: 1000 };
  return { clock, log: new LaneLog({ now: () => clock.ms, keepEvents }) };
}

const of = (log: LaneLog, lane: string) => log.totals().find((totals) => totals.lane === lane)!;

describe('LaneLog', () => {
  it('has all lanes, in the order of data, with nothing done', () => {
    const { log } = logAt();
    expect(log.totals()).toEqual(LANES.map((lane) => ({ lane, busySeconds: 0, bytes: 0, pieces: 0 })));
    expect(busiestLane(log.totals())).toBeUndefined();
  });

  it.each([
    ['one piece', [[0, 10]], 10],
    [
      'pieces with a gap',
      [
        [0, 10],
        [15, 20],
      ],
      15,
    ],
    [
      'pieces that follow each other',
      [
        [0, 10],
        [10, 20],
      ],
      20,
    ],
    [
      'pieces that overlap',
      [
        [0, 10],
        [5, 20],
        [18, 30],
      ],
      30,
    ],
    [
      'a piece within another',
      [
        [0, 30],
        [5, 10],
      ],
      30,
    ],
    [
      'equal pieces',
      [
        [3, 9],
        [3, 9],
        [3, 9],
      ],
      6,
    ],
    ['a piece of no length', [[4, 4]], 0],
  ] as const)('is busy while anything is in progress: %s', (_, pieces, busyMs) => {
    const { clock, log } = logAt();
    const ends = new Map<number, (() => void)[]>();
    for (let ms = 0; ms <= 30; ms++) {
      clock.ms = 1000 + ms;
      // Ends come first: pieces that follow each other meet at 0 in progress.
      for (const end of ends.get(ms) ?? []) end();
      for (const [start, end] of pieces) {
        if (start !== ms) continue;
        const ended = log.start('upload', 'piece', 7);
        if (end === ms) ended();
        else ends.set(end, [...(ends.get(end) ?? []), ended]);
      }
    }
    expect(of(log, 'upload')).toEqual({ lane: 'upload', busySeconds: busyMs / 1000, bytes: 7 * pieces.length, pieces: pieces.length });
  });

  it('counts the time of a piece in progress, and its bytes when it has ended', () => {
    const { clock, log } = logAt();
    const end = log.start('disk read', 'a', 100);
    clock.ms += 250;
    expect(of(log, 'disk read')).toEqual({ lane: 'disk read', busySeconds: 0.25, bytes: 0, pieces: 0 });
    clock.ms += 250;
    end();
    expect(of(log, 'disk read')).toEqual({ lane: 'disk read', busySeconds: 0.5, bytes: 100, pieces: 1 });
  });

  it('takes a second end of a piece for none', () => {
    const { clock, log } = logAt(10);
    const first = log.start('compute', 'a', 5);
    const second = log.start('compute', 'b', 5);
    clock.ms += 10;
    first();
    first();
    clock.ms += 10;
    second();
    expect(of(log, 'compute')).toEqual({ lane: 'compute', busySeconds: 0.02, bytes: 10, pieces: 2 });
    expect(log.events()).toHaveLength(2);
  });

  it('keeps lanes apart and names the busiest', () => {
    const { clock, log } = logAt();
    const read = log.start('disk read', 'a', 1);
    const compute = log.start('compute', 'b');
    clock.ms += 10;
    compute();
    clock.ms += 10;
    read();
    expect(log.totals().map(({ busySeconds }) => busySeconds)).toEqual([0.02, 0, 0.01, 0, 0]);
    expect(busiestLane(log.totals())).toBe('disk read');
  });

  it('keeps no events unless asked to', () => {
    const { log } = logAt();
    log.start('compute', 'a')();
    expect([log.events(), log.droppedEvents]).toEqual([[], 0]);
  });

  it('keeps the latest events, and counts those that it has dropped', () => {
    const { clock, log } = logAt(3);
    for (let i = 0; i < 8; i++) {
      const end = log.start('compute', `piece ${i}`, i);
      clock.ms += 2;
      end();
    }
    expect(log.events()).toEqual(
      [5, 6, 7].map((i) => ({ lane: 'compute', name: `piece ${i}`, bytes: i, startMs: 2 * i, endMs: 2 * i + 2 })),
    );
    expect(log.droppedEvents).toBe(5);
    expect(of(log, 'compute').pieces).toBe(8);
  });

  it('has a clock of its own', async () => {
    const log = new LaneLog();
    const end = log.start('compute', 'a');
    await new Promise((resolve) => setTimeout(resolve, 5));
    end();
    expect(of(log, 'compute').busySeconds).toBeGreaterThan(0.003);
  });
});
