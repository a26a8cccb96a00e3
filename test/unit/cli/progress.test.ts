import { describe, expect, it } from 'vitest';
import type { JobProgress } from '../../../src/batch/types.ts';
import { createProgress, progressLine, progressMode, reportOf, type ProgressMode } from '../../../src/cli/progress.ts';

const ERASE = '\r\u001b[K';

function at(done: number, overrides: Partial<JobProgress> = {}): JobProgress {
  return {
    phase: 'generating',
    rows: { total: 100, done, failed: 0, reused: 0 },
    stats: {
      sweeps: 1,
      running: 1,
      peakGpuBytes: 0,
      tokens: { prompt: 300, promptComputed: 300, promptShared: 0, generated: 100 },
      seconds: { load: 9, prefill: 1, decode: 1 },
      lanes: [],
    },
    seconds: 12,
    ...overrides,
  };
}

function recorder(mode: ProgressMode) {
  const written: string[] = [];
  const clock = { now: 0 };
  const progress = createProgress({
    mode,
    write: (text) => written.push(text),
    now: () => clock.now,
    memory: () => 212_000_000,
    columns: () => 80,
  });
  return { written, clock, progress };
}

describe('what is reported', () => {
  it('rates by the time of computing, and the rest by the rows of this run', () => {
    const report = reportOf(at(60, { rows: { total: 100, done: 60, failed: 0, reused: 40 } }), 5);
    expect(report).toMatchObject({ tokensPerSecond: { generated: 50, total: 200 }, etaSeconds: (2 / 20) * 40, memoryBytes: 5 });
  });

  it.each([
    [
      'before the first sweep',
      { phase: 'generating', rows: { total: 9, done: 0, failed: 0, reused: 0 }, seconds: 1 } satisfies JobProgress,
    ],
    ['when all is from an earlier run', at(50, { rows: { total: 100, done: 50, failed: 0, reused: 50 } })],
    ['while writing', at(100, { phase: 'writing' })],
  ])('no time left %s', (_, progress) => {
    expect(reportOf(progress, 0)).not.toHaveProperty('etaSeconds');
  });

  it.each([
    [at(25), '25/100 rows  50.0 tokens/s (200 with prompts)  6.00 s left  212 MB'],
    [
      at(24, { rows: { total: 100, done: 24, failed: 1, reused: 0 } }),
      '25/100 rows  1 failed  50.0 tokens/s (200 with prompts)  6.00 s left  212 MB',
    ],
    [at(0, { phase: 'reading' }), 'reading: 100 rows'],
    [at(0, { phase: 'loading' }), 'loading the model'],
    [at(0, { phase: 'writing' }), 'writing the result'],
  ])('line %#', (progress, line) => {
    expect(progressLine(reportOf(progress, 212_000_000))).toBe(line);
  });
});

describe('how it is written', () => {
  it.each([
    [{}, true, 'line'],
    [{}, false, 'off'],
    [{ json: true }, false, 'json'],
    [{ json: true }, true, 'json'],
    [{ quiet: true }, true, 'off'],
    [{ quiet: true, json: true }, true, 'off'],
  ] as const)('%j on a terminal: %s', (flags, terminal, mode) => {
    expect(progressMode(flags, terminal)).toBe(mode);
  });

  it('rewrites one line, a few times a second, and removes it', () => {
    const { written, clock, progress } = recorder('line');
    for (clock.now = 0; clock.now < 1000; clock.now += 10) progress.update(at(clock.now / 10));
    expect(written).toHaveLength(5);
    for (const text of written) {
      expect(text.startsWith(ERASE)).toBe(true);
      expect(text.slice(ERASE.length)).toMatch(/^[^\n\r]{1,79}$/);
    }
    progress.say('a\nb');
    progress.end();
    expect(written.slice(5)).toEqual([`${ERASE}a\\nb\n`, ERASE]);
  });

  it('shows a new phase at once', () => {
    const { written, progress } = recorder('line');
    progress.update(at(0, { phase: 'loading' }));
    progress.update(at(1));
    expect(written).toHaveLength(2);
  });

  it('is a line of JSON per second, the last state included', () => {
    const { written, clock, progress } = recorder('json');
    for (clock.now = 0; clock.now <= 2500; clock.now += 100) progress.update(at(clock.now / 100));
    progress.end();
    progress.end();
    const rows = written.map((line) => (JSON.parse(line) as { rows: { done: number } }).rows.done);
    expect(rows).toEqual([0, 10, 20, 25]);
    expect(written.every((line) => line.indexOf('\n') === line.length - 1)).toBe(true);
  });

  it('is silent when off, but for messages', () => {
    const { written, progress } = recorder('off');
    progress.update(at(1));
    progress.say('stopping');
    progress.end();
    expect(written).toEqual(['stopping\n']);
  });
});
