import { readFileSync, statSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { beforeAll, describe, expect, it } from 'vitest';
import type { JobSummary } from '../../src/batch/types.ts';
import { fixtureFolder } from '../helpers/golden.ts';
import { type JobFolder, jobFolder } from '../helpers/cli-job.ts';
import type { RunningCli } from '../helpers/cli.ts';
import { randomNumbers } from '../helpers/tensors.ts';

const ROWS = 48;
const INPUT = someRows();
/** In f32 a row's answer does not depend on the rows that are computed with it. */
const JOB = ['--prompt', String.raw`Task: {{instruction}}\nInput: {{input}}\nOutput:`, '--column', 'answer', '--compute', 'f32'];
/** Small blocks make many sweeps and many commits. */
const SLOW = [...JOB, '--gpu-batch-size', '2'];
const FINISHED = ['in.csv', 'out.csv', 'out.csv.done'];

/** What a job leaves that nothing disturbs. */
let whole: { readonly output: string; readonly summary: JobSummary };

beforeAll(async () => {
  using folder = jobFolder({ 'in.csv': INPUT });
  const { status, summary, message } = await folder.run(JOB);
  if (status !== 0 || summary?.rows.done !== ROWS) throw new Error(`the job that nothing disturbs ended with ${status}: ${message}`);
  whole = { output: folder.read('out.csv'), summary };
});

describe('a job killed on purpose', () => {
  it.each([
    // Half of the header.
    ['journal-header', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'torn'],
    // In the middle of a line.
    ['journal-line', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'torn'],
    ['journal-line:5', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'torn'],
    // Between the write of the journal and its fsync.
    ['journal-written', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'whole'],
    ['journal-written:4', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'whole'],
    ['journal-synced:3', ['in.csv', 'out.csv.journal', 'out.csv.lock'], 'whole'],
    // During assembly.
    ['assembling', ['in.csv', 'out.csv.journal', 'out.csv.lock', 'out.csv.part'], 'whole'],
    ['assembling:30', ['in.csv', 'out.csv.journal', 'out.csv.lock', 'out.csv.part'], 'whole'],
    // Before and after the rename.
    ['part-written', ['in.csv', 'out.csv.journal', 'out.csv.lock', 'out.csv.part'], 'whole'],
    ['output-renamed', ['in.csv', 'out.csv', 'out.csv.journal', 'out.csv.lock'], 'whole'],
    ['done-written', ['in.csv', 'out.csv', 'out.csv.done', 'out.csv.journal', 'out.csv.lock'], 'whole'],
    ['closed', ['in.csv', 'out.csv', 'out.csv.done', 'out.csv.lock'], 'none'],
  ])('at %s goes on where it was', async (point, names, journal) => {
    using folder = jobFolder({ 'in.csv': INPUT });
    const killed = await folder.run(SLOW, { env: { FLEXLLMGEN_CRASH_AT: point } });
    expect(killed).toMatchObject({ status: null, signal: 'SIGKILL' });
    expect(folder.names()).toEqual(names);
    expect(stateOfJournal(folder)).toBe(journal);
    await expectToGoOn(folder);
  });

  it('while it copies standard input goes on when it is given that again', async () => {
    using folder = jobFolder();
    const flags = [...JOB, '-i', '-', '--format', 'csv'];
    const killed = await folder.run(flags, { stdin: INPUT, env: { FLEXLLMGEN_CRASH_AT: 'spooled' } });
    expect(killed).toMatchObject({ status: null, signal: 'SIGKILL' });
    expect(folder.names()).toEqual(['out.csv.input.part', 'out.csv.lock']);
    expect(await folder.run(flags, { stdin: INPUT })).toMatchObject({ status: 0, summary: { rows: { done: ROWS, reused: 0 } } });
    expect(folder.read('out.csv')).toBe(whole.output);
  });
});

describe('a job with the default precision', () => {
  // Rows are computed beside others than in the whole job; none of these has a tie that this decides.
  it.each(['journal-synced:3', 'journal-line:9'])('that is killed at %s goes on to the same rows', async (point) => {
    const job = JOB.slice(0, JOB.indexOf('--compute'));
    using undisturbed = jobFolder({ 'in.csv': INPUT });
    expect(await undisturbed.run(job)).toMatchObject({ status: 0 });
    using folder = jobFolder({ 'in.csv': INPUT });
    const killed = await folder.run([...job, '--gpu-batch-size', '2'], { env: { FLEXLLMGEN_CRASH_AT: point } });
    expect(killed).toMatchObject({ status: null, signal: 'SIGKILL' });
    const { rows } = saved(folder);
    expect(await folder.run(job)).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS, reused: rows } } });
    expect(folder.read('out.csv')).toBe(undisturbed.read('out.csv'));
  });
});

describe('a job killed at a random time', () => {
  const numbers = [...randomNumbers(3, 12)].map((x) => (x + 1) / 2);

  it.each(numbers.slice(0, 2).map((x) => Math.round(50 + 200 * x)))('after %i ms goes on where it was', async (ms) => {
    using folder = jobFolder({ 'in.csv': INPUT });
    const running = folder.start(SLOW);
    await setTimeout(ms);
    running.child.kill('SIGKILL');
    expect(await running.result).toMatchObject({ status: null, signal: 'SIGKILL' });
    await expectToGoOn(folder);
  });

  // Never so late that the job could end before it is killed.
  it.each(numbers.slice(2, 7).map((x, i) => [Math.round(x * ROWS * 0.6), Math.round(numbers[i + 7]! * 20)]))(
    'when %i rows are saved, and %i ms more, goes on where it was',
    async (rows, ms) => {
      using folder = jobFolder({ 'in.csv': INPUT });
      const running = folder.start([...JOB, '--gpu-batch-size', '1']);
      await savedRows(folder, rows, running);
      await setTimeout(ms);
      running.child.kill('SIGKILL');
      expect(await running.result).toMatchObject({ status: null, signal: 'SIGKILL' });
      expect(saved(folder).rows).toBeGreaterThanOrEqual(rows);
      await expectToGoOn(folder);
    },
  );
});

describe('a job that is stopped', () => {
  it.each(['SIGINT', 'SIGTERM', 'SIGHUP'] as const)('by %s saves what is done, ends with 4, and goes on', async (signal) => {
    using folder = jobFolder({ 'in.csv': INPUT });
    const running = folder.start([...JOB, '--gpu-batch-size', '1']);
    await savedRows(folder, 5, running);
    running.child.kill(signal);
    const stopped = await running.result;
    expect(stopped).toMatchObject({ status: 4, signal: null });
    const { rows } = saved(folder);
    expect(rows).toBeLessThan(ROWS);
    expect(stopped.stderr).toContain(`stopped: ${rows} of ${ROWS} rows of out.csv are saved; the same command goes on`);
    await expectToGoOn(folder);
  });
});

describe('a job that goes on', () => {
  it('generates only the rows whose content changed', async () => {
    using folder = jobFolder({ 'in.csv': INPUT });
    await folder.run(SLOW, { env: { FLEXLLMGEN_CRASH_AT: 'part-written' } });
    const changed = INPUT.replace('1961.08.27', '1961.08.28');
    expect(changed).not.toBe(INPUT);
    folder.write('in.csv', changed);
    const { status, summary } = await folder.run(JOB);
    expect({ status, rows: summary!.rows }).toEqual({ status: 0, rows: { total: ROWS, done: ROWS, failed: 0, reused: ROWS - 1 } });
    expect(folder.read('out.csv')).toBe(whole.output.replace('1961.08.27', '1961.08.28').replace(', 1961-08-27,', ', 1961-08-28,'));
  });

  it.each([
    ['prompt', ['--prompt', 'Input: {{input}}'], /prompt was "Task: \{\{instruction\}\}\\nInput.*", is "Input: \{\{input\}\}"/],
    ['length', ['--max-tokens', '5'], /maxTokens was not given, is 5/],
    ['temperature', ['--temperature', '0.5'], /temperature was not given, is 0.5/],
    ['column', ['--column', 'other'], /column was "answer", is "other"/],
    ['model', ['-m', fixtureFolder('opt')], /another model: model was ".*tidy-opt-5m", is ".*opt"; fingerprint was/],
    ['precision', ['--compute', 'auto'], /another model: compute was "f32", is "auto"; fingerprint was/],
  ])('is refused with another %s', async (_what, flags, difference) => {
    using folder = jobFolder({ 'in.csv': INPUT });
    await folder.run(SLOW, { env: { FLEXLLMGEN_CRASH_AT: 'journal-synced:3' } });
    const before = folder.read('out.csv.journal');
    const refused = await folder.run([...JOB, ...flags]);
    expect(refused).toMatchObject({ status: 2, stdout: '' });
    expect(refused.message).toMatch(difference);
    expect(refused.message).toMatch(/--restart/);
    expect(folder.read('out.csv.journal')).toBe(before);
  });

  it('begins anew with --restart', async () => {
    using folder = jobFolder({ 'in.csv': INPUT });
    await folder.run([...SLOW, '--max-tokens', '3'], { env: { FLEXLLMGEN_CRASH_AT: 'journal-synced:3' } });
    expect(saved(folder).rows).toBeGreaterThan(0);
    expect(await folder.run([...JOB, '--restart'])).toMatchObject({ status: 0, summary: { rows: { done: ROWS, reused: 0 } } });
    expect(folder.read('out.csv')).toBe(whole.output);
    expect(folder.names()).toEqual(FINISHED);
  });
});

describe('a finished job', () => {
  it('generates nothing when asked again, refuses another prompt, and begins anew with --restart', async () => {
    using folder = jobFolder({ 'in.csv': INPUT });
    await folder.run(JOB);
    const { mtimeMs } = statSync(folder.at('out.csv'));
    const again = await folder.run(JOB);
    expect(again).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS, reused: ROWS }, tokens: { generated: 0 } } });
    expect(again.message).toContain('nothing to do');
    const other = await folder.run([...JOB, '--prompt', '{{input}}']);
    expect(other.status).toBe(2);
    expect(other.message).toMatch(/prompt was "Task.*", is "\{\{input\}\}".*--restart/);
    expect(statSync(folder.at('out.csv')).mtimeMs).toBe(mtimeMs);
    const anew = await folder.run([...JOB, '--restart']);
    expect(anew).toMatchObject({ status: 0, summary: { rows: { reused: 0 }, tokens: whole.summary.tokens } });
    expect(folder.read('out.csv')).toBe(whole.output);
  });
});

/** The same command, other than its block, finishes what is left and nothing else. */
async function expectToGoOn(folder: JobFolder): Promise<void> {
  const { rows, tokens } = saved(folder);
  const { status, summary } = await folder.run(JOB);
  expect({ status, rows: summary?.rows }).toEqual({ status: 0, rows: { total: ROWS, done: ROWS, failed: 0, reused: rows } });
  expect(summary!.tokens.generated).toBe(whole.summary.tokens.generated - tokens);
  expect(folder.read('out.csv')).toBe(whole.output);
  expect(folder.names()).toEqual(FINISHED);
}

/** Rows whose lines in the journal are whole, and their tokens. */
function saved(folder: JobFolder): { readonly rows: number; readonly tokens: number } {
  if (folder.has('out.csv.done')) return { rows: ROWS, tokens: whole.summary.tokens.generated };
  if (!folder.has('out.csv.journal')) return { rows: 0, tokens: 0 };
  const lines = folder.read('out.csv.journal').split('\n').slice(0, -1);
  const found = lines.map((line) => JSON.parse(line) as { completion?: { completionTokens: number } });
  const completions = found.flatMap(({ completion }) => completion ?? []);
  return { rows: completions.length, tokens: completions.reduce((sum, { completionTokens }) => sum + completionTokens, 0) };
}

function stateOfJournal(folder: JobFolder): 'none' | 'torn' | 'whole' {
  if (!folder.has('out.csv.journal')) return 'none';
  return folder.read('out.csv.journal').endsWith('\n') ? 'whole' : 'torn';
}

/** Resolves as soon as the journal has so many rows. */
async function savedRows(folder: JobFolder, rows: number, { child }: RunningCli): Promise<void> {
  for (;;) {
    // Its first line is the header.
    if (folder.has('out.csv.journal') && folder.read('out.csv.journal').split('\n').length - 2 >= rows) return;
    if (child.exitCode !== null) throw new Error(`ended with ${child.exitCode} before ${rows} rows were saved`);
    await setTimeout(2);
  }
}

/** Rows of every task. */
function someRows(): string {
  const [header, ...rows] = readFileSync(new URL('../../examples/data/messy.csv', import.meta.url), 'utf8')
    .trimEnd()
    .split('\n');
  const step = Math.trunc(rows.length / ROWS);
  return `${[header, ...rows.filter((_, i) => i % step === 0).slice(0, ROWS)].join('\n')}\n`;
}
