import { spawn } from 'node:child_process';
import { Readable } from 'node:stream';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import type { JobOptions } from '../../../src/batch/types.ts';
import { type JobFolder, jobFolder, type JobRun, table } from './job-folder.ts';
import { KILLED_FAKE, killedOptions } from './killed-job.ts';

const CHILD = fileURLToPath(new URL('killed-child.ts', import.meta.url));
const ROWS = 25;

/** Runs the job in a child until it kills itself. */
async function runKilled(folder: JobFolder, input: string, crashAt: string, output = 'out.csv'): Promise<NodeJS.Signals | null> {
  const env = { ...process.env, FLEXLLMGEN_CRASH_AT: crashAt };
  const child = spawn(process.execPath, ['--import', 'tsx', CHILD, input, folder.path(output)], {
    env,
    stdio: ['pipe', 'inherit', 'inherit'],
  });
  child.stdin?.on('error', () => {});
  child.stdin?.end(table(ROWS));
  return new Promise((resolve) => child.on('close', (_code, signal) => resolve(signal)));
}

function resume(folder: JobFolder, input: string, stdin = '', output = 'out.csv'): Promise<JobRun> {
  const options = { prompt: undefined, ...killedOptions(input, folder.path(output), Readable.from([Buffer.from(stdin)])) };
  return folder.run(options as JobOptions, KILLED_FAKE);
}

/** Rows with messages, and rows of OpenAI's chat format. */
function conversations(rows: number): string {
  return Array.from({ length: rows }, (_, row) => {
    const messages = [{ role: 'user', content: `text ${row}` }];
    const line =
      row % 2 === 0 ? { id: row, messages } : { custom_id: `${row}`, url: '/v1/chat/completions', body: { messages, logprobs: true } };
    return `${JSON.stringify(line)}\n`;
  }).join('');
}

const whole: Promise<string> = (async () => {
  await using folder = await jobFolder();
  await resume(folder, '-', table(ROWS));
  return folder.read('out.csv');
})();

describe('a job killed with SIGKILL', () => {
  it.concurrent.each([
    ['spooled', '-', 0],
    ['journal-header', 'in.csv', 0],
    ['journal-line', 'in.csv', 0],
    ['journal-line:2', 'in.csv', 1],
    ['journal-line:5', 'in.csv', 4],
    ['journal-line:5', '-', 4],
    ['journal-written', 'in.csv', 1],
    ['journal-written:2', 'in.csv', 2],
    ['journal-written:6', '-', 6],
    ['journal-synced', 'in.csv', 1],
    ['journal-synced:4', 'in.csv', 4],
    ['journal-synced:6', '-', 6],
    ['assembling', 'in.csv', ROWS],
    ['assembling:13', 'in.csv', ROWS],
    ['assembling:25', 'in.csv', ROWS],
    ['assembling:25', '-', ROWS],
    ['part-written', 'in.csv', ROWS],
    ['output-renamed', 'in.csv', ROWS],
    ['output-renamed', '-', ROWS],
    ['closed', 'in.csv', ROWS],
  ] as const)('at %s, input %s, ends with the same output', { timeout: 60_000 }, async (point, name, reused) => {
    await using folder = await jobFolder();
    const input = name === '-' ? '-' : await folder.write(name, table(ROWS));
    expect(await runKilled(folder, input, point)).toBe('SIGKILL');
    // Before its copy is complete, stdin has to be given again.
    const { exitCode, summary, generator } = await resume(folder, input, point === 'spooled' ? table(ROWS) : '');
    expect(exitCode).toBe(3);
    expect(summary.rows).toMatchObject({ total: ROWS, done: ROWS - 1, failed: 1 });
    expect(summary.rows.reused).toBeGreaterThanOrEqual(reused);
    expect(generator?.requests.length ?? 0).toBe(ROWS - summary.rows.reused);
    expect(await folder.read('out.csv')).toBe(await whole);
    expect(await folder.names()).toEqual([...(name === '-' ? [] : [name]), 'out.csv', 'out.csv.done']);
  });

  it('between OUT.done and the end of its journal has nothing left to do', { timeout: 60_000 }, async () => {
    await using folder = await jobFolder();
    const input = await folder.write('in.csv', table(5));
    expect(await runKilled(folder, input, 'done-written')).toBe('SIGKILL');
    expect(await folder.names()).toEqual(['in.csv', 'out.csv', 'out.csv.done', 'out.csv.journal', 'out.csv.lock']);
    const { exitCode, summary, generator } = await resume(folder, input);
    expect([exitCode, summary.rows.reused, generator]).toEqual([0, 5, undefined]);
    expect(await folder.names()).toEqual(['in.csv', 'out.csv', 'out.csv.done']);
  });

  it.concurrent.each([
    ['journal-line:4', 3],
    ['journal-synced:2', 2],
    ['assembling:9', ROWS],
  ] as const)('at %s, with conversations as rows, ends with the same output', { timeout: 60_000 }, async (point, reused) => {
    const timeless = (text: string): string => text.replaceAll(/"created":\d+/g, '');
    await using undisturbed = await jobFolder();
    const rows = conversations(ROWS);
    await resume(undisturbed, await undisturbed.write('in.jsonl', rows), '', 'out.jsonl');
    await using folder = await jobFolder();
    const input = await folder.write('in.jsonl', rows);
    expect(await runKilled(folder, input, point, 'out.jsonl')).toBe('SIGKILL');
    const { exitCode, summary, generator } = await resume(folder, input, '', 'out.jsonl');
    expect([exitCode, summary.rows.done]).toEqual([3, ROWS - 1]);
    expect(summary.rows.reused).toBeGreaterThanOrEqual(reused);
    expect(generator?.requests.length ?? 0).toBe(ROWS - summary.rows.reused);
    expect(timeless(await folder.read('out.jsonl'))).toBe(timeless(await undisturbed.read('out.jsonl')));
  });
});
