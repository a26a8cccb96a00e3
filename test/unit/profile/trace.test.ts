import { readdirSync, readFileSync, truncateSync, writeFileSync } from 'node:fs';
import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { MAX_EVENT_NAME, MAX_TRACE_BYTES, readTrace, writeTrace } from '../../../src/profile/chrome-trace.ts';
import { checkTracePlace } from '../../../src/profile/trace-place.ts';
import { summarizeTrace } from '../../../src/profile/trace-summary.ts';
import { FormatError, UsageError } from '../../../src/util/errors.ts';
import { type LaneEvent, LaneLog } from '../../../src/util/lanes.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';
import { event } from '../../helpers/lane-event.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeEach(async () => void (folder = await makeTemporaryFolder()));
afterEach(() => folder[Symbol.asyncDispose]());

const at = (name: string): string => join(folder.path, name);
const logOf = (events: readonly LaneEvent[], droppedEvents = 0) => ({ events: () => [...events], droppedEvents });

interface Entry {
  readonly ph: string;
  readonly name: string;
  readonly tid: number;
  readonly ts: number;
  readonly dur: number;
  readonly args: { readonly name: string; readonly bytes: number };
}
const entriesOf = (path: string): Entry[] => (JSON.parse(readFileSync(path, 'utf8')) as { traceEvents: Entry[] }).traceEvents;

describe('a trace', () => {
  it('comes back as it was logged', async () => {
    const clock = { ms: 5 };
    const log = new LaneLog({ now: () => clock.ms, keepEvents: 3 });
    for (const [lane, name, bytes] of [
      ['compute', 'lost', 0],
      ['disk read', 'layer 0 "é"\n', 1e12],
      ['compute', 'layer 0', 0],
      ['disk write', '😀', 1],
    ] as const) {
      clock.ms += 0.25;
      const end = log.start(lane, name, bytes);
      clock.ms += 1.125;
      end();
    }
    await writeTrace(at('t.json'), log);
    const { events, droppedEvents } = await readTrace(at('t.json'));
    expect(droppedEvents).toBe(1);
    expect(events).toEqual([
      event('disk read', 1.625, 2.75, 'layer 0 "é"\n', 1e12),
      event('compute', 3, 4.125, 'layer 0'),
      event('disk write', 4.375, 5.5, '😀', 1),
    ]);
    expect(readdirSync(folder.path)).toEqual(['t.json']);
  });

  it('has complete events in microseconds, on a named row per lane, and more rows where pieces overlap', async () => {
    const events = [
      event('compute', 0, 10, 'c'),
      event('disk read', 0, 4, 'a', 9),
      event('disk read', 2, 6, 'b'),
      event('disk read', 4, 5, 'd'),
      event('disk read', 5, 7, 'e'),
    ];
    await writeTrace(at('t.json'), logOf(events));
    const entries = entriesOf(at('t.json'));
    const names = new Map(entries.filter(({ name }) => name === 'thread_name').map(({ tid, args }) => [tid, args.name]));
    const rows = entries.filter(({ ph }) => ph === 'X').map(({ name, tid, ts, dur, args }) => [names.get(tid), name, ts, dur, args.bytes]);
    expect(rows).toEqual([
      ['disk read', 'a', 0, 4000, 9],
      ['disk read', 'd', 4000, 1000, 0],
      ['disk read', 'e', 5000, 2000, 0],
      ['disk read 2', 'b', 2000, 4000, 0],
      ['compute', 'c', 0, 10_000, 0],
    ]);
  });

  it('has no events of a row that overlap, whatever is logged', async () => {
    let seed = 1;
    const random = (): number => (seed = (seed * 48_271) % 2_147_483_647) / 2_147_483_647;
    const events = Array.from({ length: 2000 }, () => {
      const start = random() * 100;
      return event(random() < 0.5 ? 'upload' : 'compute', start, start + random() ** 8);
    });
    await writeTrace(at('t.json'), logOf(events));
    const ends = new Map<number, number>();
    for (const { ph, tid, ts, dur } of entriesOf(at('t.json'))) {
      if (ph !== 'X') continue;
      expect(ts).toBeGreaterThanOrEqual(ends.get(tid) ?? 0);
      ends.set(tid, ts + dur);
    }
    expect((await readTrace(at('t.json'))).events).toHaveLength(2000);
  });

  it('has names of a bounded length', async () => {
    await writeTrace(at('t.json'), logOf([event('compute', 0, 1, '😀'.repeat(500))]));
    expect((await readTrace(at('t.json'))).events[0]!.name).toBe('😀'.repeat(MAX_EVENT_NAME));
  });

  it('of nothing comes back empty', async () => {
    await writeTrace(at('t.json'), new LaneLog());
    const trace = await readTrace(at('t.json'));
    expect(trace).toEqual({ events: [], droppedEvents: 0 });
    expect(summarizeTrace(trace)).toEqual({ startMs: 0, endMs: 0, lanes: [] });
  });

  it('sums up to the union of its pieces', () => {
    const events = [event('disk read', 10, 40, 'a', 5), event('disk read', 30, 60, 'b', 6), event('compute', 90, 110)];
    expect(summarizeTrace({ events, droppedEvents: 0 })).toEqual({
      startMs: 10,
      endMs: 110,
      lanes: [
        { lane: 'disk read', busySeconds: 0.05, bytes: 11, pieces: 2 },
        { lane: 'compute', busySeconds: 0.02, bytes: 0, pieces: 1 },
      ],
    });
  });
});

describe('the place of a trace', () => {
  it('may have a former trace, or an empty file', async () => {
    writeFileSync(at('t.json'), '');
    await writeTrace(at('t.json'), logOf([event('compute', 0, 1)]));
    await writeTrace(at('t.json'), logOf([event('upload', 0, 1)]));
    expect((await readTrace(at('t.json'))).events).toEqual([event('upload', 0, 1)]);
  });

  it.each([
    ['a table', 'table.csv', /table\.csv: something else has this name/],
    ['a folder', 'sub', /something else has this name/],
    ['in no folder', 'none/t.json', /the folder .*none cannot be written to: does not exist/],
    ['in a file', 'table.csv/t.json', /table\.csv/],
  ])('is refused: %s', async (_, name, message) => {
    writeFileSync(at('table.csv'), 'a,b\n1,2\n');
    await mkdir(at('sub'));
    await expect(checkTracePlace(at(name))).rejects.toThrow(message);
    await expect(writeTrace(at(name), new LaneLog())).rejects.toThrow(message);
    expect(readFileSync(at('table.csv'), 'utf8')).toBe('a,b\n1,2\n');
    expect(readdirSync(folder.path)).toEqual(['sub', 'table.csv']);
  });

  it('is wrong usage when it is refused', async () => {
    await expect(checkTracePlace(at('none/t.json'))).rejects.toThrow(UsageError);
  });
});

describe('a trace from elsewhere is refused', () => {
  const good = { name: 'x', cat: 'compute', ph: 'X', ts: 1, dur: 1, pid: 1, tid: 1, args: { bytes: 0 } };
  const file = (traceEvents: unknown, otherData: unknown = { writer: 'flexllmgen trace 1', droppedEvents: 0 }) => ({
    otherData,
    traceEvents,
  });
  const one = (change: object) => file([{ ...good, ...change }]);
  it.each([
    ['no JSON', '{"traceEvents":[', /not JSON/],
    ['an array', [good], /not a JSON object but an array/],
    ['of another program', { traceEvents: [good] }, /otherData\.writer "flexllmgen trace 1" expected/],
    ['of a later version', file([], { writer: 'flexllmgen trace 2', droppedEvents: 0 }), /otherData\.writer/],
    [
      'a count that is none',
      file([], { writer: 'flexllmgen trace 1', droppedEvents: -1 }),
      /otherData\.droppedEvents: an integer, 0 or more, expected, got -1/,
    ],
    ['no events', file(undefined), /traceEvents: an array expected/],
    ['too many events', file(Array.from({ length: 400_001 }, () => 0)), /has 400001 entries, at most 400000 are read/],
    ['null for an event', file([good, null]), /traceEvents\[1\]: an object expected/],
    ['another phase', one({ ph: 'B' }), /traceEvents\[0\]\.ph: "X" or "M" expected, got "B"/],
    ['no phase', one({ ph: undefined }), /ph: "X" or "M" expected, got nothing/],
    ['another lane', one({ cat: '__proto__' }), /cat: one of disk read, upload, .* expected, got "__proto__"/],
    ['a number for a name', one({ name: 5 }), /name: a string/],
    ['a long name', one({ name: 'x'.repeat(201) }), /name: a string of at most 100 characters/],
    ['a negative time', one({ ts: -1 }), /ts: an integer, 0 or more, expected, got -1/],
    ['half a microsecond', one({ ts: 0.5 }), /ts: an integer/],
    ['a huge time', one({ dur: 1e300 }), /dur: an integer/],
    ['a time in words', one({ dur: 'long' }), /dur: an integer, 0 or more, expected, got "long"/],
    ['no arguments', one({ args: [] }), /args: an object expected/],
    ['no bytes', one({ args: {} }), /args\.bytes: an integer, 0 or more, expected, got nothing/],
  ])('%s', async (_, content, message) => {
    writeFileSync(at('bad.json'), typeof content === 'string' ? content : JSON.stringify(content));
    const error: unknown = await readTrace(at('bad.json')).catch((cause: unknown) => cause);
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).message).toMatch(message);
    expect((error as FormatError).message.startsWith(`${at('bad.json')}: `)).toBe(true);
  });

  it('but not what these tests begin with', async () => {
    writeFileSync(at('good.json'), JSON.stringify(one({})));
    expect(await readTrace(at('good.json'))).toEqual({ events: [event('compute', 0.001, 0.002)], droppedEvents: 0 });
  });

  it('too long, before it is read', async () => {
    writeFileSync(at('long.json'), '');
    truncateSync(at('long.json'), MAX_TRACE_BYTES + 1);
    await expect(readTrace(at('long.json'))).rejects.toThrow(`has ${MAX_TRACE_BYTES + 1} bytes, at most ${MAX_TRACE_BYTES} are read`);
  });

  it('missing', async () => {
    await expect(readTrace(at('none.json'))).rejects.toThrow(/none\.json: there is no such file/);
  });
});
