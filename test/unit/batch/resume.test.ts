import { appendFile, readFile, rm, writeFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { JobOptions, JobProgress } from '../../../src/batch/types.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';
import { type JobFolder, jobFolder, table } from './job-folder.ts';

/** Runs until a sweep and stops there, as Ctrl-C does. */
async function runUntil(folder: JobFolder, sweep: number, options: Parameters<JobFolder['run']>[0] = {}, fake: FakeOptions = {}) {
  const stop = new AbortController();
  const outcome = await folder.run(
    { ...options, signal: stop.signal },
    { ...fake, onSweep: (now) => void (now === sweep && stop.abort()) },
  );
  expect(outcome.exitCode).toBe(4);
  return outcome;
}

async function uninterrupted(rows: string): Promise<string> {
  await using folder = await jobFolder();
  await folder.write('in.csv', rows);
  await folder.run();
  return folder.read('out.csv');
}

describe('resuming', () => {
  it('generates what is missing, and nothing else', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    expect(first.notice).toMatch(/stopped: \d+ of 30 rows of .* are saved; the same command goes on/);
    const saved = first.summary.rows.done;
    expect(saved).toBeGreaterThan(4);
    const second = await folder.run();
    expect(second.exitCode).toBe(0);
    expect(second.summary.rows).toEqual({ total: 30, done: 30, failed: 0, reused: saved });
    expect(second.generator!.requests).toHaveLength(30 - saved);
    expect(await folder.read('out.csv')).toBe(await uninterrupted(table(30)));
  });

  it('keeps what had finished when it is stopped at once', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const stop = new AbortController();
    const first = await folder.run({ abortSignal: stop.signal }, { onSweep: (sweep) => void (sweep === 20 && stop.abort()) });
    expect(first.exitCode).toBe(4);
    expect(first.summary.rows.done).toBeGreaterThan(4);
    expect((await folder.run()).summary.rows.reused).toBe(first.summary.rows.done);
  });

  it('can be stopped before it has begun, and while the model is opened', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    expect((await folder.run({ signal: AbortSignal.abort() })).exitCode).toBe(4);
    const stop = new AbortController();
    const onProgress = ({ phase }: JobProgress): void => void (phase === 'loading' && stop.abort());
    const outcome = await folder.run({ signal: stop.signal, onProgress });
    expect([outcome.exitCode, outcome.generator?.requests, outcome.generator?.isClosed()]).toEqual([4, [], true]);
    expect((await folder.run()).exitCode).toBe(0);
  });

  it('never counts a row as done before it is in the journal', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(40));
    const checks: Promise<void>[] = [];
    await folder.run({
      onProgress: ({ phase, rows }) => {
        if (phase !== 'generating') return;
        checks.push(
          readFile(folder.path('out.csv.journal'), 'utf8').then(
            (text) => expect(text.split('"completion"').length - 1).toBeGreaterThanOrEqual(rows.done),
            () => {},
          ),
        );
      },
    });
    await Promise.all(checks);
    expect(checks.length).toBeGreaterThan(10);
  });

  it('generates rows again whose content changed, and new ones', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    const changed = `${table(30, (row) => (row === 1 ? 'changed' : `text ${row}`))}30,new\n`;
    await folder.write('in.csv', changed);
    const second = await folder.run();
    expect(second.summary.rows).toEqual({ total: 31, done: 31, failed: 0, reused: first.summary.rows.done - 1 });
    expect(await folder.read('out.csv')).toBe(await uninterrupted(changed));
  });

  it('takes over a changed column that the prompt does not use', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    await folder.write('in.csv', table(30).replace('\n2,', '\ntwo,'));
    expect((await folder.run()).summary.rows.reused).toBe(first.summary.rows.done);
    expect(await folder.read('out.csv')).toContain('\ntwo,text 2,');
  });

  it.each([
    ['prompt', { prompt: 'Other: {{text}}' }, {}, /prompt was "Input: \{\{text\}\}", is "Other: \{\{text\}\}"/],
    [
      'kind of prompt',
      { prompt: undefined, user: '{{text}}' },
      {},
      /prompt was "Input: \{\{text\}\}", is not given; user was not given, is "\{\{text\}\}"/,
    ],
    ['a parameter', { params: { temperature: 1 } }, {}, /temperature was not given, is 1/],
    ['a penalty', { params: { frequencyPenalty: 0.5, minP: 0.1 } }, {}, /minP was not given, is 0.1/],
    ['column', { column: 'answer' }, {}, /column was "completion", is "answer"/],
    [
      'model',
      { generator: { model: 'other' } },
      { fingerprint: 'fake-2' },
      /model was "fake", is "other"; fingerprint was "fake-1", is "fake-2"/,
    ],
    ['files of the model', {}, { fingerprint: 'fake-2' }, /fingerprint was "fake-1", is "fake-2"/],
  ])('is refused with another %s, unless restarted', async (_what, options, fake, message) => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    await expect(folder.run(options as Partial<JobOptions>, fake)).rejects.toMatchObject({
      code: 'usage',
      message: expect.stringMatching(message),
    });
    expect((await runUntil(folder, 1)).summary.rows.done).toBeGreaterThanOrEqual(first.summary.rows.done);
    expect((await folder.run({ ...options, restart: true } as Partial<JobOptions>, fake)).summary.rows).toEqual({
      total: 30,
      done: 30,
      failed: 0,
      reused: 0,
    });
  });

  it.each([
    ['system', { system: 'B' }, /system was "A", is "B"/],
    ['user', { user: 'x {{text}}' }, /user was "\{\{text\}\}", is "x \{\{text\}\}"/],
    ['no system', { system: undefined }, /system was "A", is not given/],
  ])('of conversations is refused with another %s text, and goes on with the same', async (_what, changed, message) => {
    const same: Partial<JobOptions> = { prompt: undefined, system: 'A', user: '{{text}}' } as object;
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const { summary } = await runUntil(folder, 20, same);
    const other = { ...same, ...changed } as Partial<JobOptions>;
    await expect(folder.run(other)).rejects.toMatchObject({ code: 'usage', message: expect.stringMatching(message) as string });
    expect((await folder.run(same)).summary.rows).toEqual({ total: 30, done: 30, failed: 0, reused: summary.rows.done });
  });

  it('of conversations tries those again that failed', async () => {
    const options: Partial<JobOptions> = { prompt: undefined, user: '{{text}}' } as object;
    await using folder = await jobFolder();
    await folder.write('in.csv', table(5));
    expect((await folder.run(options, { failing: 'text 3' })).exitCode).toBe(3);
    const again = await folder.run({ ...options, retryFailed: true });
    expect(again.generator!.requests).toEqual([{ prompt: { messages: [{ role: 'user', content: 'text 3' }] }, params: {}, key: 3 }]);
    expect(again.exitCode).toBe(0);
  });

  it('accepts another name for the same model', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    await runUntil(folder, 20);
    expect((await folder.run({ generator: { model: './fake' } })).summary.rows.reused).toBeGreaterThan(0);
  });

  it('cuts off a torn line, and everything behind a damaged one', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    await appendFile(folder.path('out.csv.journal'), '{"row":29,"hash":"00');
    expect((await runUntil(folder, 1)).summary.rows.reused).toBe(first.summary.rows.done);
    const lines = (await folder.read('out.csv.journal')).split('\n');
    await writeFile(folder.path('out.csv.journal'), lines.with(3, '\0'.repeat(20)).join('\n'));
    expect((await folder.run()).summary.rows.reused).toBe(2);
    expect(await folder.read('out.csv')).toBe(await uninterrupted(table(30)));
  });

  it('takes over the lock of a process that is gone', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    await folder.write('out.csv.lock', JSON.stringify({ pid: 2 ** 22 + 1, host: (await import('node:os')).hostname(), started: '1' }));
    expect((await folder.run()).exitCode).toBe(0);
    expect(await folder.names()).toEqual(['in.csv', 'out.csv', 'out.csv.done']);
  });

  it('respects the lock of another machine', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    await folder.write('out.csv.lock', JSON.stringify({ pid: 1, host: 'elsewhere', started: '1' }));
    await expect(folder.run()).rejects.toThrow(/in use by process 1 on elsewhere.*remove .*out.csv.lock/);
  });
});

describe('a finished job', () => {
  it('generates nothing, opens no model, and exits as before', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    const first = await folder.run({}, { failing: 'text 3' });
    const second = await folder.run();
    expect([first.exitCode, second.exitCode, second.generator]).toEqual([3, 3, undefined]);
    expect(second.summary.rows).toEqual({ total: 10, done: 9, failed: 1, reused: 10 });
    expect(second.notice).toMatch(/nothing to do/);
  });

  it('keeps its journal small', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    await folder.run();
    expect(
      (await folder.read('out.csv.done'))
        .trimEnd()
        .split('\n')
        .map((line) => Object.keys(JSON.parse(line) as object)[0]),
    ).toEqual(['journal', 'finished']);
  });

  it('generates failed rows again when asked to', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    await folder.run({}, { failing: 'text 3' });
    const again = await folder.run({ retryFailed: true });
    expect(again.generator!.requests.map(({ key }) => key)).toEqual([3]);
    expect(again.summary.rows).toEqual({ total: 10, done: 10, failed: 0, reused: 9 });
    expect(await folder.read('out.csv')).toBe(await uninterrupted(table(10)));
    expect((await folder.run({ retryFailed: true })).generator).toBeUndefined();
  });

  it.each([
    ['the input changed', async (folder: JobFolder) => folder.write('in.csv', table(11)), {}, /the input changed since/],
    ['the output was edited', async (folder: JobFolder) => folder.write('out.csv', 'edited'), {}, /was changed since its job finished/],
    ['the prompt is another', async () => '', { prompt: '{{id}}' }, /is finished, with other settings: prompt was/],
  ])('is not done again when %s, unless by force', async (_what, change, options, message) => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    await folder.run();
    await change(folder);
    await expect(folder.run(options)).rejects.toThrow(message);
    expect((await folder.run({ ...options, force: true })).summary.rows.reused).toBe(0);
  });

  it('restarts without force', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    await folder.run();
    expect((await folder.run({ restart: true })).summary.rows).toEqual({ total: 10, done: 10, failed: 0, reused: 0 });
  });

  it('takes a refused restart back without a loss', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(30));
    const first = await runUntil(folder, 20);
    await expect(folder.run({ restart: true, prompt: '{{street}}' })).rejects.toThrow('"street"');
    expect((await folder.run()).summary.rows.reused).toBe(first.summary.rows.done);
  });

  it('begins anew when its output is gone', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    await folder.run();
    await rm(folder.path('out.csv'));
    expect((await folder.run()).summary.rows.reused).toBe(0);
  });

  it('reuses the rows of a table with failures whose bad row was mended', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10).replace('4,text 4', '4'));
    expect((await folder.run()).exitCode).toBe(3);
    await folder.write('in.csv', table(10));
    expect((await folder.run()).summary.rows).toEqual({ total: 10, done: 10, failed: 0, reused: 9 });
    expect(await folder.read('out.csv')).toBe(await uninterrupted(table(10)));
  });
});
