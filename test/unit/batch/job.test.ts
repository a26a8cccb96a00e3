import { parse } from 'csv-parse/sync';
import { Readable } from 'node:stream';
import { describe, expect, it } from 'vitest';
import type { JobOptions, JobProgress } from '../../../src/batch/types.ts';
import { type JobFolder, jobFolder, table } from './job-folder.ts';

describe('a job over a CSV', () => {
  it('adds a completion to every row, in order, and leaves OUT and OUT.done', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(10));
    const progress: JobProgress[] = [];
    const { summary, exitCode, generator } = await folder.run({ onProgress: (p) => progress.push(p) });
    expect(exitCode).toBe(0);
    expect(summary.rows).toEqual({ total: 10, done: 10, failed: 0, reused: 0 });
    expect(summary.tokensPerSecond).toEqual({
      generated: summary.tokens.generated / 2,
      total: (summary.tokens.generated + summary.tokens.prompt) / 2,
    });
    expect(Object.keys(summary)).toEqual(['rows', 'tokens', 'seconds', 'tokensPerSecond', 'peakBytes', 'kernels', 'lanes']);
    const rows = parse<Record<string, string>>(await folder.read('out.csv'), { columns: true });
    expect(Object.keys(rows[0]!)).toEqual(['id', 'text', 'completion', 'finish_reason', 'error']);
    expect(rows.map((row) => [row.id, row.text])).toEqual(Array.from({ length: 10 }, (_, i) => [String(i), `text ${i}`]));
    expect(rows.every((row) => row.completion!.startsWith('<') && row.completion!.endsWith('\n"é,"') && row.error === '')).toBe(true);
    expect(await folder.names()).toEqual(['in.csv', 'out.csv', 'out.csv.done']);
    expect(generator!.requests.map(({ key, prompt }) => [key, prompt])).toEqual(
      Array.from({ length: 10 }, (_, i) => [i, `Input: text ${i}`]),
    );
    expect(generator!.isClosed()).toBe(true);
    expect([...new Set(progress.map((p) => p.phase))]).toEqual(['reading', 'loading', 'generating', 'writing']);
    expect(progress.at(-1)!.rows).toEqual(summary.rows);
  });

  it('leaves parameters that were not given to the generator', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(1));
    const { generator } = await folder.run({ params: { seed: 7, stop: ['\n'] } });
    expect(generator!.requests[0]!.params).toEqual({ seed: 7, stop: ['\n'] });
  });

  it.each([
    ['an empty file', '', ''],
    ['a header only', 'id,text\n', 'id,text,completion,finish_reason,error\n'],
  ])('turns %s into as much without opening the model', async (_what, content, expected) => {
    await using folder = await jobFolder();
    await folder.write('in.csv', content);
    const { exitCode, generator, summary } = await folder.run();
    expect([exitCode, generator, summary.rows.total]).toEqual([0, undefined, 0]);
    expect(await folder.read('out.csv')).toBe(expected);
    expect((await folder.run()).exitCode).toBe(0);
  });

  it('writes error rows for bad rows and exits with 3', async () => {
    await using folder = await jobFolder();
    const bytes = Buffer.concat([
      Buffer.from('id,text\n0,good\n1,b'),
      Buffer.from([0xff]),
      Buffer.from(`d\n2,a,b\n3\n4,${'x'.repeat(2000)}\n`),
    ]);
    await folder.write('in.csv', bytes);
    const { exitCode, summary } = await folder.run();
    expect(exitCode).toBe(3);
    expect(summary.rows).toEqual({ total: 5, done: 1, failed: 4, reused: 0 });
    const errors = parse<Record<string, string>>(await folder.read('out.csv'), { columns: true }).map((row) => row.error);
    expect(errors).toEqual([
      '',
      'line 3: column "text" is not UTF-8; wrong bytes are U+FFFD here',
      'line 4: 3 cells, but the header has 2; the last 1 are left out here',
      'line 5: 1 cells, but the header has 2',
      "line 6: prompt of 2007 tokens, the model's context has 1000",
    ]);
  });

  it('passes on errors of the generator, and keeps what was finished', async () => {
    await using folder = await jobFolder();
    await folder.write(
      'in.csv',
      table(20, (row) => (row === 15 ? 'NaN' : `text ${row}`)),
    );
    await expect(folder.run({}, { throwing: 'NaN' })).rejects.toThrow('NaN in layer 0');
    expect(await folder.names()).toEqual(['in.csv', 'out.csv.journal']);
    expect((await folder.run()).summary.rows.reused).toBeGreaterThan(5);
  });
});

describe('a prompt that names no column', () => {
  const sameForAll = 'the prompt names no {{column}}, so that every row asked for the same';
  it.each([
    ['is noticed', 3, 'Write a name:', sameForAll],
    ['is no surprise for a single row', 1, 'Write a name:', undefined],
    ['is not what made the rows equal', 3, '{{same}}', undefined],
  ])('%s', async (_what, rows, prompt, notice) => {
    await using folder = await jobFolder();
    await folder.write('in.csv', `same\n${'x\n'.repeat(rows)}`);
    const outcome = await folder.run({ prompt });
    expect([outcome.exitCode, outcome.notice]).toEqual([0, notice]);
  });
});

describe('what a job refuses', () => {
  it.each([
    ['a missing input', { input: 'missing.csv' }, /cannot read the input .*missing.csv: does not exist/],
    ['a folder as input', { input: '.', format: 'csv' as const }, /is a folder/],
    ['an unknown column', { prompt: '{{street}}' }, /column "street" is not in .*in.csv; it has "id", "text"/],
    ['a CSV without a prompt', { prompt: undefined }, /--prompt/],
    ['an empty prompt', { prompt: '' }, /the prompt is empty; give one, such as --prompt/],
    ['a CSV of lines that end with CR', { input: 'cr.csv' }, /carriage return without a newline; save the file with LF or CRLF/],
    ['a column that is there', { column: 'id' }, /has a column "id" already; choose another with --column/],
    ['an output folder that is missing', { output: 'no/out.csv' }, /cannot write .*folder: does not exist/],
    ['a folder that takes no files', { output: '/proc/out.csv' }, /cannot write .*out.csv: its folder/],
    ['a folder as output', { output: '.' }, /is a folder/],
    ['the input as output', { output: 'in.csv' }, /is the output too/],
    ['another way to write the input', { output: './x/../in.csv' }, /is the output too/],
    ['a file that is not its own', { output: 'other.csv' }, /exists and is not the output of this job.*--force/],
    ['stdin without a format', { input: '-' }, /--format/],
    ['an unknown extension', { input: 'in.txt' }, /format of .*in.txt is not known/],
    ['the name of another format', { output: 'out.jsonl' }, /format of the input, csv/],
    ['UTF-16', { input: 'utf16.csv' }, /UTF-16; save it as UTF-8/],
    ['a journal that is none', { output: 'strange.csv' }, /strange.csv.journal is not a journal/],
  ] as [string, { input?: string; output?: string; [option: string]: unknown }, RegExp][])('%s', async (_what, wrong, message) => {
    const { input = 'in.csv', output = 'out.csv', ...options } = wrong;
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    await folder.write('other.csv', 'mine');
    await folder.write('in.txt', table(3));
    await folder.write('strange.csv.journal', '{"a":1}\n');
    await folder.write('cr.csv', table(3).replaceAll('\n', '\r'));
    await folder.write('utf16.csv', Buffer.from('\ufeffid,text\n', 'utf16le'));
    const before = await folder.names();
    const paths = { input: input === '-' ? '-' : folder.path(input), output: output.startsWith('/') ? output : folder.path(output) };
    await expect(folder.run({ ...options, ...paths })).rejects.toMatchObject({ code: 'usage', message: expect.stringMatching(message) });
    expect(await folder.names()).toEqual(before);
    expect(await folder.read('other.csv')).toBe('mine');
  });

  it('an output that another job is writing', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    const refusals: unknown[] = [];
    await folder.run(
      {},
      {
        onSweep: async (sweep) => {
          if (sweep === 1) await folder.run().catch((error: unknown) => refusals.push(error));
        },
      },
    );
    expect(refusals).toMatchObject([{ code: 'usage', message: expect.stringContaining(`in use by process ${process.pid}`) }]);
    expect(await folder.names()).toEqual(['in.csv', 'out.csv', 'out.csv.done']);
  });

  it('replaces a file that is not its own with force', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(3));
    await folder.write('out.csv', 'mine');
    expect((await folder.run({ force: true })).exitCode).toBe(0);
    expect(await folder.read('out.csv')).toMatch(/^id,text,completion/);
  });
});

describe('a job over stdin', () => {
  it('is the same as over a file, and removes its copy', async () => {
    await using folder = await jobFolder();
    await folder.write('in.csv', table(8));
    await folder.run({ output: folder.path('file.csv') });
    const stdin = (): Readable => Readable.from([Buffer.from(table(8))]);
    const fromStdin = { input: '-', format: 'csv' as const, output: folder.path('stdin.csv') };
    expect((await folder.run({ ...fromStdin, stdin: stdin() })).exitCode).toBe(0);
    expect(await folder.read('stdin.csv')).toBe(await folder.read('file.csv'));
    expect(await folder.names()).toEqual(['file.csv', 'file.csv.done', 'in.csv', 'stdin.csv', 'stdin.csv.done']);
    expect((await folder.run({ ...fromStdin, stdin: stdin() })).generator).toBeUndefined();
    await expect(folder.run({ ...fromStdin, stdin: Readable.from([Buffer.from(table(9))]) })).rejects.toThrow('the input changed since');
  });

  it('goes on from its copy', async () => {
    await using folder = await jobFolder();
    const stop = new AbortController();
    const options = { input: '-', format: 'csv' as const };
    const onSweep = (sweep: number): void => void (sweep === 12 && stop.abort());
    const first = await folder.run({ ...options, stdin: Readable.from([Buffer.from(table(30))]), signal: stop.signal }, { onSweep });
    expect([first.exitCode, first.summary.rows.total]).toEqual([4, 30]);
    expect(await folder.names()).toEqual(['out.csv.input', 'out.csv.journal']);
    const second = await folder.run({ ...options, stdin: Readable.from([]) });
    expect(second.summary.rows).toMatchObject({ total: 30, done: 30, reused: first.summary.rows.done });
    expect(await folder.names()).toEqual(['out.csv', 'out.csv.done']);
  });
});

/** The folder of a job over stdin that has answered table(3). */
async function finishedFromStdin(fake: Parameters<JobFolder['run']>[1] = {}) {
  const folder = await jobFolder();
  const run = (content: string, options: Partial<JobOptions> = {}) =>
    folder.run({ input: '-', format: 'csv', stdin: Readable.from(content === '' ? [] : [Buffer.from(content)]), ...options });
  const fromStdin = { input: '-', format: 'csv' as const, stdin: Readable.from([Buffer.from(table(3))]) };
  await folder.run(fromStdin, fake);
  return { folder, run };
}

describe('a finished job over stdin', () => {
  const finished = ['out.csv', 'out.csv.done'];
  const other = table(3, (row) => `other ${row}`);
  const third = table(3, (row) => `third ${row}`);

  it('keeps no copy of an input that it refused', async () => {
    const { folder, run } = await finishedFromStdin();
    await using _removed = folder;
    await expect(run(other)).rejects.toThrow('the input changed since');
    expect(await folder.names()).toEqual([...finished]);
    await run(third, { force: true });
    expect(await folder.read('out.csv')).toContain('third 2');
  });

  it('reads stdin, not the copy that a crash left', async () => {
    const { folder, run } = await finishedFromStdin();
    await using _removed = folder;
    await folder.write('out.csv.input', other);
    await run(third, { force: true });
    expect(await folder.read('out.csv')).toContain('third 2');
  });

  it('has nothing to do when stdin is empty, and still knows its input', async () => {
    const { folder, run } = await finishedFromStdin();
    await using _removed = folder;
    for (const content of ['', table(3)]) {
      const { exitCode, notice, generator } = await run(content);
      expect([exitCode, generator, notice]).toEqual([0, undefined, expect.stringContaining('nothing to do')]);
      expect(await folder.names()).toEqual(finished);
    }
  });

  it('needs its input to try failed rows again', async () => {
    const { folder, run } = await finishedFromStdin({ failing: 'text 1' });
    await using _removed = folder;
    await expect(run('', { retryFailed: true })).rejects.toThrow('stdin is empty; the rows of');
    expect(await folder.names()).toEqual(finished);
    expect((await run(table(3), { retryFailed: true })).summary.rows).toEqual({ total: 3, done: 3, failed: 0, reused: 2 });
  });
});

describe('a run over stdin', () => {
  it('that was refused leaves no copy to the job that it would have replaced', async () => {
    await using folder = await jobFolder();
    const stop = new AbortController();
    const from = (content: string) => ({
      input: '-',
      format: 'csv' as const,
      stdin: Readable.from(content === '' ? [] : [Buffer.from(content)]),
    });
    await folder.run({ ...from(table(30)), signal: stop.signal }, { onSweep: (sweep) => void (sweep === 12 && stop.abort()) });
    await expect(folder.run({ ...from(table(5)), restart: true, prompt: '{{street}}' })).rejects.toThrow('"street"');
    expect((await folder.run(from(table(30)))).summary.rows.total).toBe(30);
  });

  it('that was stopped before its journal began keeps its copy for an empty stdin', async () => {
    await using folder = await jobFolder();
    const stop = new AbortController();
    const options = { input: '-', format: 'csv' as const };
    const onProgress = ({ phase }: JobProgress): void => void (phase === 'loading' && stop.abort());
    const stopped = await folder.run({ ...options, stdin: Readable.from([Buffer.from(table(3))]), signal: stop.signal, onProgress });
    expect(stopped.exitCode).toBe(4);
    expect((await folder.run({ ...options, stdin: Readable.from([]) })).summary.rows.total).toBe(3);
  });
});
