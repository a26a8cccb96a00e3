import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { readTrace } from '../../src/profile/chrome-trace.ts';
import { cli, jsonLines, startCli } from '../helpers/cli.ts';

const PROMPT = String.raw`Task: Write the date as YYYY-MM-DD\nInput: {{when}}\nOutput:`;
const DATES = ['1961.08.27', '12.6.1961', 'sep 13 2008', '5/5/1984'];
const ANSWERS = ['1961-08-27', '1961-06-12', '2008-09-13', '1984-05-05'];

let folder: string;
/** Two blocks wide at most, so that a job of some rows has many sweeps. */
let job: string[];
beforeEach(() => {
  folder = mkdtempSync(join(os.tmpdir(), 'flexllmgen run '));
  job = ['run', '-i', at('in.csv'), '-o', at('out.csv'), '--prompt', PROMPT, '--column', 'date', '--threads', '1'];
});
afterEach(() => rmSync(folder, { recursive: true }));

const at = (name: string): string => join(folder, name);
const table = (rows: number): string => `when\n${Array.from({ length: rows }, (_, i) => `"${DATES[i % DATES.length]}"\n`).join('')}`;
const output = (): string => readFileSync(at('out.csv'), 'utf8');
const answered = (rows: number): string =>
  `when,date,finish_reason,error\n${Array.from({ length: rows }, (_, i) => `${DATES[i % 4]}, ${ANSWERS[i % 4]},stop,\n`).join('')}`;

describe('flexllmgen run', () => {
  it('fills a column, says so, and does nothing when asked again', async () => {
    writeFileSync(at('in.csv'), table(6));
    const first = await cli(job);
    expect(first).toMatchObject({ status: 0, stderr: '' });
    expect(first.stdout).toMatch(/^ {2}rows +6 of 6\n {2}tokens +\d+ generated, \d+ in prompts, \d+ of them shared\n/);
    expect(output()).toBe(answered(6));
    const again = await cli(job);
    expect(again.status).toBe(0);
    expect(again.stdout).toMatch(/^ {2}rows +6 of 6, 6 from an earlier run\n {2}time /);
  });

  it('with --json: one summary on standard output, progress on standard error', async () => {
    writeFileSync(at('in.csv'), table(4));
    const { status, stdout, stderr } = await cli([...job, '--json']);
    expect(status).toBe(0);
    expect(jsonLines(stdout)).toMatchObject([
      {
        rows: { total: 4, done: 4, failed: 0, reused: 0 },
        tokens: { generated: 48 },
        peakBytes: { gpu: 0 },
        kernels: expect.stringMatching(/^kernels \S+, 1 threads$/),
        lanes: [
          { lane: 'disk read', busySeconds: expect.any(Number), bytes: expect.any(Number), pieces: expect.any(Number) },
          { lane: 'compute', busySeconds: expect.any(Number), bytes: 0, pieces: expect.any(Number) },
        ],
      },
    ]);
    const reports = jsonLines(stderr);
    expect(reports.filter(({ type }) => type === 'plan')).toMatchObject([
      { plan: { gpuBatchSize: 64, bytes: { total: expect.any(Number) } } },
    ]);
    const progress = reports.filter(({ type }) => type !== 'plan');
    expect(progress.length).toBeGreaterThan(0);
    for (const line of progress) expect(line).toMatchObject({ type: 'progress', rows: { failed: 0 }, memoryBytes: expect.any(Number) });
  });

  it('with --quiet: nothing at all', async () => {
    writeFileSync(at('in.csv'), table(2));
    expect(await cli([...job, '--quiet'])).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(output()).toBe(answered(2));
  });

  it('with --trace: a file of what each lane did, which `trace` reads', async () => {
    writeFileSync(at('in.csv'), table(4));
    const trace = at('run.trace.json');
    expect(await cli([...job, '--quiet', '--trace', trace])).toMatchObject({ status: 0, stdout: '', stderr: '' });
    expect(output()).toBe(answered(4));
    const { events, droppedEvents } = await readTrace(trace);
    expect(droppedEvents).toBe(0);
    expect(events.filter(({ lane }) => lane === 'compute').map(({ name }) => name)).toEqual(
      expect.arrayContaining(['embed, batch 0', 'layer 0, batch 0', 'head, batch 0']),
    );
    const shown = await cli(['trace', trace, '--json', '--svg', at('run.svg')]);
    expect(shown).toMatchObject({ status: 0, stderr: '' });
    expect(jsonLines(shown.stdout)).toMatchObject([{ lanes: expect.arrayContaining([expect.objectContaining({ lane: 'compute' })]) }]);
    expect(readFileSync(at('run.svg'), 'utf8')).toMatch(/^<svg /);
    const refusals = [
      ['out.csv', 'is the output'],
      ['in.csv', 'something else has this name'],
    ] as const;
    for (const [name, message] of refusals) {
      const refused = await cli([...job, '--restart', '--trace', at(name)]);
      expect(refused).toMatchObject({ status: 2, stderr: expect.stringContaining(message) });
    }
    expect(output()).toBe(answered(4));
  });

  it('reads standard input', async () => {
    const args = job.with(2, '-');
    expect(await cli([...args, '--format', 'csv'], { stdin: table(2) })).toMatchObject({ status: 0 });
    expect(output()).toBe(answered(2));
  });
});

describe('Ctrl-C', () => {
  const ROWS = 600;
  const slow = (): string[] => [...job, '--gpu-batch-size', '2', '--json'];

  it.each([
    ['once saves', 1],
    ['twice saves', 2],
  ])('%s what is done and ends with 4; the same command goes on', async (_, presses) => {
    writeFileSync(at('in.csv'), table(ROWS));
    const running = startCli(slow());
    await running.stderrMatches(/"done":[1-9]/);
    running.child.kill('SIGINT');
    if (presses > 1) {
      await running.stderrMatches(/stopping/);
      await new Promise((resolve) => setTimeout(resolve, 300));
      running.child.kill('SIGINT');
    }
    const stopped = await running.result;
    expect(stopped).toMatchObject({ status: 4, signal: null });
    const [summary] = jsonLines(stopped.stdout) as { rows: { done: number } }[];
    expect(summary!.rows.done).toBeGreaterThan(0);
    expect(summary!.rows.done).toBeLessThan(ROWS);
    const resumed = await cli([...job, '--json']);
    expect(resumed.status).toBe(0);
    expect(jsonLines(resumed.stdout)).toMatchObject([{ rows: { total: ROWS, done: ROWS, failed: 0, reused: summary!.rows.done } }]);
    expect(output()).toBe(answered(ROWS));
  });
});
