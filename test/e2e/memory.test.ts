import { closeSync, openSync, writeSync } from 'node:fs';
import { beforeAll, describe, expect, it } from 'vitest';
import { cli, jsonLines } from '../helpers/cli.ts';
import { jobFolder, jobResult } from '../helpers/cli-job.ts';

const MEGABYTE = 1e6;
/** Peak of the first command of a new user; this much more is the most that the size of a job may cost. */
const DEMO_LIMIT = 400 * MEGABYTE;
const GROWTH_LIMIT = 60 * MEGABYTE;
const TIMEOUT = 110_000;

/** Bytes of resident memory. */
let demoPeak: number;

beforeAll(async () => {
  const { status, summary, message } = jobResult(await cli(['demo', '--json', '--threads', '1'], { timeoutMs: TIMEOUT }));
  if (status !== 0) throw new Error(`the demo ended with ${status}: ${message}`);
  demoPeak = summary!.peakBytes.cpu;
});

/** Writes a table piece by piece. */
function writeRows(path: string, header: string, rows: number, row: (index: number) => string): void {
  const file = openSync(path, 'w');
  writeSync(file, header);
  for (let first = 0; first < rows; first += 100) {
    const count = Math.min(100, rows - first);
    writeSync(file, Array.from({ length: count }, (_, i) => row(first + i)).join(''));
  }
  closeSync(file);
}

describe('peak memory', () => {
  it(`of the demo is under ${DEMO_LIMIT / MEGABYTE} MB`, () => {
    expect(demoPeak).toBeLessThan(DEMO_LIMIT);
    // No process with a model is this small: the figure is in bytes.
    expect(demoPeak).toBeGreaterThan(50 * MEGABYTE);
  });

  it('does not grow with columns that the prompt does not use: 2,000 rows of 100 kB', async () => {
    using folder = jobFolder();
    const unused = 'x'.repeat(100_000);
    writeRows(folder.at('in.csv'), 'date,unused\n', 2000, (i) => `1961.08.${10 + (i % 20)},${unused}\n`);
    const { status, summary } = await folder.run(['--prompt', '{{date}}', '--max-tokens', '1'], { timeoutMs: TIMEOUT });
    expect(status).toBe(0);
    expect(summary!.rows.done).toBe(2000);
    expect(summary!.peakBytes.cpu - demoPeak).toBeLessThan(GROWTH_LIMIT);
  });

  it('does not grow with the number of rows: 200,000, stopped after the first thousand', async () => {
    using folder = jobFolder();
    writeRows(folder.at('in.csv'), 'date\n', 200_000, (i) => `12.${i}\n`);
    const running = folder.start(['--prompt', '{{date}}', '--max-tokens', '2'], { timeoutMs: TIMEOUT });
    await running.stderrMatches(/"total":200000,"done":[1-9]\d{3}/);
    running.child.kill('SIGINT');
    const { status, summary } = jobResult(await running.result);
    expect(status).toBe(4);
    expect(summary!.rows).toMatchObject({ total: 200_000, failed: 0, reused: 0 });
    expect(summary!.rows.done).toBeGreaterThanOrEqual(1000);
    expect(summary!.peakBytes.cpu - demoPeak).toBeLessThan(GROWTH_LIMIT);
  });
});

/** docs/offloading.md has 85 % and more for jobs of a second and longer; other systems' libraries differ. */
const LEAST_SHARE = 0.75;

const batchLine = (custom_id: string, more: Readonly<Record<string, unknown>>): string => {
  const body = { model: 'm', prompt: `Task: Uppercase the text\nInput: row ${custom_id}\nOutput:`, ...more };
  return `${JSON.stringify({ custom_id, method: 'POST', url: '/v1/completions', body })}\n`;
};

const linesOf = (count: number, more: Readonly<Record<string, unknown>>): string =>
  Array.from({ length: count }, (_, i) => batchLine(String(i), more)).join('');

describe('memory under --mem', () => {
  it.each<[string, number, Readonly<Record<string, unknown>>]>([
    ['rows of a few tokens', 400, { max_tokens: 16 }],
    ['rows with twenty log-probabilities a token', 128, { max_tokens: 120, logprobs: 20, temperature: 2, seed: 1, ignore_eos: true }],
  ])('is what was planned: %s', async (_what, count, more) => {
    using job = jobFolder({ 'in.jsonl': linesOf(count, more) });
    const { status, stderr, summary } = await job.run(['-i', 'in.jsonl', '-o', 'out.jsonl', '--mem', '600MiB']);
    expect({ status, done: summary?.rows.done }).toEqual({ status: 0, done: count });
    const said = jsonLines(stderr) as { type: string; plan?: { bytes: { total: number; program: number } } }[];
    const { bytes } = said.find(({ type }) => type === 'plan')!.plan!;
    expect(bytes.program).toBeLessThan(150e6);
    expect(summary!.peakBytes.cpu).toBeLessThanOrEqual(bytes.total);
    expect(summary!.peakBytes.cpu).toBeGreaterThan(LEAST_SHARE * bytes.total);
  });
});
