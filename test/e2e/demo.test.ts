import { existsSync } from 'node:fs';
import { expect, it } from 'vitest';
import { cli, jsonLines } from '../helpers/cli.ts';

/** A folder in which nobody can write, root neither; only Linux has one for certain. */
const READ_ONLY = '/proc';

it('the first command of a new user works where only temporary files can be written', async () => {
  const readOnly = existsSync(READ_ONLY) ? { cwd: READ_ONLY, env: { HOME: READ_ONLY } } : {};
  const { status, stdout, stderr } = await cli(['demo', '--threads', '1', '--json'], { ...readOnly, timeoutMs: 110_000 });
  expect(stderr).not.toContain('error');
  expect(status).toBe(0);
  const [report] = jsonLines(stdout) as { rows: object; accuracy: Record<string, { right: number; rows: number }>; output: string }[];
  expect(report).toMatchObject({
    rows: { total: 560, done: 560, failed: 0, reused: 0 },
    output: expect.stringContaining('messy.clean.csv'),
  });
  const scores = Object.values(report!.accuracy);
  expect(scores.map(({ rows }) => rows)).toEqual(Array.from({ length: 14 }, () => 40));
  // 505 in f32; with the default types a tie may fall the other way.
  expect(Math.abs(scores.reduce((sum, { right }) => sum + right, 0) - 505)).toBeLessThanOrEqual(5);
});

it('says what it did', async () => {
  const { status, stdout } = await cli(['demo', '--threads', '1'], { timeoutMs: 110_000 });
  expect(status).toBe(0);
  expect(stdout).toMatch(/^ {2}task +before +after\n/m);
  expect(stdout).toMatch(/^ {2}date +1961\.08\.27 +1961-08-27 +right\n/m);
  expect(stdout).toMatch(/^ {2}rows +560 of 560\n/m);
  expect(stdout).toMatch(/^ {2}tokens\/s +[\d.,]+ generated, [\d.,]+ with prompts\n/m);
  expect(stdout).toMatch(/^ {2}peak memory +\d+ MB\n/m);
  expect(stdout).toMatch(/^ {2}all +50\d \/ 560 +\d+\.\d %\n/m);
});
