import { existsSync, mkdirSync } from 'node:fs';
import { setTimeout } from 'node:timers/promises';
import { describe, expect, it } from 'vitest';
import { jsonLines } from '../helpers/cli.ts';
import { jobFolder } from '../helpers/cli-job.ts';
import { fixtureFolder } from '../helpers/golden.ts';

/** Short answers of a small model are enough to see which rows are answered. */
const JOB = ['-m', fixtureFolder('opt'), '--prompt', '{{text}}', '--max-tokens', '2', '--ignore-eos'];
const JSONL = [...JOB, '-i', 'in.jsonl', '-o', 'out.jsonl'];
const CONTEXT = 256;
const LONG = 'license '.repeat(CONTEXT);

const openAi = (id: string, body: object): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/completions', body: { prompt: 'The license', ...body } })}\n`;

describe('a bad row becomes an error row, and the job ends with 3', () => {
  it.each([
    ['longer than the context', `text\n${LONG}\nok\n`, /^line 2: the prompt has \d{3,} tokens, the model's context is 256$/],
    ['not UTF-8', Buffer.from('text\nab\xffcd\nok\n', 'latin1'), /^line 2: column "text" is not UTF-8/],
    ['of too few cells', 'text,b\nx\nok,1\n', /^line 2: 1 cells, but the header has 2$/],
  ])('CSV row %s', async (_what, input, message) => {
    using folder = jobFolder({ 'in.csv': input });
    const { status, summary } = await folder.run(JOB);
    expect({ status, rows: summary!.rows }).toEqual({ status: 3, rows: { total: 2, done: 1, failed: 1, reused: 0 } });
    const [header, bad, good, ...rest] = folder.read('out.csv').split('\n');
    expect(header).toMatch(/^text(,b)?,completion,finish_reason,error$/);
    expect(lastCell(bad!)).toMatch(message);
    expect(good).toMatch(/^ok(,1)?,.+,length,$/);
    expect(rest).toEqual(['']);
  });

  it('a quote that is never closed', async () => {
    using folder = jobFolder({ 'in.csv': 'text\nok\n"never closed\nrest\n' });
    expect(await folder.run(JOB)).toMatchObject({ status: 3, summary: { rows: { total: 2, done: 1, failed: 1 } } });
    expect(folder.read('out.csv')).toMatch(/line 3: a quote is opened and never closed before the end of the file/);
  });

  it.each([
    ['a line longer than the context', `{"text":"${LONG}"}\n`, /^line 1: the prompt has \d{3,} tokens, the model's context is 256$/],
    ['a line that is not UTF-8', Buffer.from('{"text":"\xc3("}\n', 'latin1'), /^line 1: not UTF-8$/],
    ['a list', '["text"]\n', /^line 1: no JSON object: \["text"\]$/],
    ['a number', '17\n', /^line 1: no JSON object: 17$/],
    ['half an object', '{"text":\n', /^line 1: no JSON object: \{"text":$/],
    ['an object without the column', '{"other":1}\n', /^line 1: no key "text", which the prompt names; keys: other$/],
  ])('JSONL: %s', async (_what, line, message) => {
    using folder = jobFolder({ 'in.jsonl': Buffer.concat([Buffer.from(line), Buffer.from('{"text":"ok"}\n')]) });
    const { status, summary } = await folder.run(JSONL);
    expect({ status, rows: summary!.rows }).toEqual({ status: 3, rows: { total: 2, done: 1, failed: 1, reused: 0 } });
    const [bad, good] = jsonLines(folder.read('out.jsonl'));
    expect(bad).toMatchObject({ completion: null, finish_reason: null, error: expect.stringMatching(message) });
    expect(good).toMatchObject({ text: 'ok', finish_reason: 'length', error: null });
  });

  it.each([
    ['second use of an id', openAi('a', { user: 'other' }), 'custom_id', /^line 2: second use of custom_id "a"$/],
    ['a field that is not supported', openAi('b', { n: 2 }), 'n', /^line 2: n is not supported, got 2$/],
    ['an unknown field', openAi('b', { tools: [] }), 'tools', /^line 2: tools is not supported, got \[\]$/],
  ])('OpenAI batch line: %s', async (_what, line, param, message) => {
    using folder = jobFolder({ 'in.jsonl': openAi('a', {}) + line });
    expect(await folder.run(JSONL)).toMatchObject({ status: 3, summary: { rows: { total: 2, done: 1, failed: 1 } } });
    const [good, bad] = jsonLines(folder.read('out.jsonl'));
    expect(good).toMatchObject({ custom_id: 'a', response: { status_code: 200 } });
    expect(bad).toMatchObject({ response: { status_code: 400, body: { error: { param, message: expect.stringMatching(message) } } } });
  });
});

describe('a wrong command begins nothing and ends with 2', () => {
  const GOOD = 'text\nok\n';

  it.each<[string, readonly string[], RegExp]>([
    ['a missing input', ['-i', 'nothing.csv'], /cannot read the input nothing.csv: does not exist/],
    ['a folder as input', ['-i', 'folder', '--format', 'csv'], /the input folder is a folder, a file is needed/],
    ['a folder as output', ['-o', 'folder', '--format', 'csv'], /the output folder is a folder/],
    ['an output in no folder', ['-o', 'no/where/out.csv'], /cannot write no\/where\/out.csv: its folder: does not exist/],
    ['an output below a file', ['-o', 'in.csv/out.csv'], /cannot write in.csv\/out.csv: its folder: is not (in )?a folder/],
    ['an output equal to the input', ['-o', 'in.csv'], /the input in.csv is the output too/],
    ['an output equal to the input, by another path', ['-o', 'folder/../in.csv'], /is the output too/],
    ['an unknown column', ['--prompt', '{{text}} {{nmae}}'], /column "nmae" is not in in.csv; it has "text"/],
    ['an empty prompt', ['--prompt', ''], /the prompt is empty; give one, such as --prompt/],
    ['an input of unknown format', ['-i', 'x.tsv'], /the format of x.tsv is not known by its name; give --format csv or --format jsonl/],
    ['another format for the output', ['-o', 'out.jsonl'], /the output has the format of the input, csv, but is named out.jsonl/],
    ['a column that is there', ['--column', 'text'], /has a column "text" already; choose another with --column/],
    ['a model that is not there', ['-m', 'nothing'], /nothing: there is no such folder/],
    ['a model that is a file', ['-m', 'in.csv'], /in.csv: is a file, a model folder or a .gguf file is expected/],
  ])('%s', async (_what, flags, message) => {
    using folder = jobFolder({ 'in.csv': GOOD });
    mkdirSync(folder.at('folder'));
    const result = await folder.run([...JOB, ...flags]);
    expect(result.message).toMatch(message);
    expect(result).toMatchObject({ status: 2, stdout: '' });
    expect(result.stderr).not.toMatch(/\n\s+at /);
    expect(folder.names()).toEqual(['folder', 'in.csv']);
    expect(folder.read('in.csv')).toBe(GOOD);
  });

  it('a CSV without a prompt', async () => {
    using folder = jobFolder({ 'in.csv': GOOD });
    const { status, message } = await folder.run([]);
    expect(message).toMatch(
      /a CSV needs a prompt, such as --prompt "Input: \{\{text\}\}" or --user "\{\{text\}\}"; columns of in.csv: "text"/,
    );
    expect(status).toBe(2);
  });

  it('a CSV whose lines end with CR', async () => {
    using folder = jobFolder({ 'in.csv': 'id,text\r1,ok\r' });
    const { status, message } = await folder.run(JOB);
    expect(message).toContain('in.csv: the header has a carriage return without a newline; save the file with LF or CRLF');
    expect([status, folder.names()]).toEqual([2, ['in.csv']]);
  });

  it('another standard input of a finished job, which no later run takes for its own', async () => {
    using folder = jobFolder();
    const flags = [...JOB, '-i', '-', '--format', 'csv'];
    expect(await folder.run(flags, { stdin: 'text\nA1\n' })).toMatchObject({ status: 0 });
    expect(await folder.run(flags, { stdin: 'text\nB1\n' })).toMatchObject({ status: 2 });
    expect(await folder.run(flags, { stdin: '' })).toMatchObject({ status: 0, summary: { rows: { total: 1 } } });
    expect(folder.names()).toEqual(['out.csv', 'out.csv.done']);
    expect(await folder.run([...flags, '--force'], { stdin: 'text\nC1\n' })).toMatchObject({ status: 0 });
    expect(folder.read('out.csv')).toMatch(/^C1,/m);
  });

  it.skipIf(!existsSync('/sys/kernel'))('an output where nobody can write', async () => {
    using folder = jobFolder({ 'in.csv': GOOD });
    const { status, message } = await folder.run([...JOB, '-o', '/sys/kernel/out.csv']);
    expect(message).toMatch(
      /cannot write \/sys\/kernel\/out.csv: its folder: (permission denied|not permitted|the file system is read-only)/,
    );
    expect(status).toBe(2);
  });

  it('an output that another job works on', async () => {
    using folder = jobFolder({ 'in.csv': GOOD });
    const other = folder.start([...JOB, '-i', '-', '--format', 'csv'], { stdin: null });
    while (!folder.has('out.csv.lock')) await setTimeout(10);
    const { status, message } = await folder.run(JOB);
    expect(message).toContain(`out.csv is in use by process ${other.child.pid}; wait for it, or remove `);
    expect(status).toBe(2);
    other.child.stdin!.end(GOOD);
    expect(await other.result).toMatchObject({ status: 0 });
    expect(folder.read('out.csv')).toMatch(/^ok,/m);
  });

  it('an output that is not its own, unless forced', async () => {
    using folder = jobFolder({ 'in.csv': GOOD, 'out.csv': 'precious\n' });
    const refused = await folder.run(JOB);
    expect(refused.message).toMatch(/out.csv exists and is not the output of this job; .*--force/);
    expect([refused.status, folder.read('out.csv')]).toEqual([2, 'precious\n']);
    expect(await folder.run([...JOB, '--force'])).toMatchObject({ status: 0 });
    expect(folder.read('out.csv')).toMatch(/^ok,/m);
  });
});

describe('a table without rows is no error', () => {
  it.each([
    ['an empty CSV', 'in.csv', '', ''],
    ['a CSV with a header only', 'in.csv', 'id,text\r\n', 'id,text,completion,finish_reason,error\r\n'],
    ['a CSV with a header only that does not end', 'in.csv', 'text', 'text,completion,finish_reason,error\n'],
    ['an empty JSONL', 'in.jsonl', '', ''],
    ['a JSONL of blank lines', 'in.jsonl', '\n\n', ''],
  ])('%s', async (_what, name, input, output) => {
    using folder = jobFolder({ [name]: input });
    const out = name.replace('in', 'out');
    const { status, summary } = await folder.run([...JOB, '-i', name, '-o', out]);
    expect({ status, rows: summary!.rows }).toEqual({ status: 0, rows: { total: 0, done: 0, failed: 0, reused: 0 } });
    expect(folder.read(out)).toBe(output);
  });
});

describe.skipIf(process.platform === 'win32')('a disk that is full ends a job with 4, and it goes on', () => {
  const ROWS = 60;
  const INPUT = `text,more\n${Array.from({ length: ROWS }, (_, i) => `row ${i},${'x'.repeat(200)}\n`).join('')}`;

  it.each([
    ['the journal', 'out.csv.journal', 4],
    ['the output', 'out.csv.part', 12],
  ])('while %s is written', async (_what, file, blocks) => {
    using whole = jobFolder({ 'in.csv': INPUT });
    await whole.run([...JOB, '--compute', 'f32']);
    using folder = jobFolder({ 'in.csv': INPUT });
    const job = [...JOB, '--compute', 'f32', '--gpu-batch-size', '4'];
    // No file may grow beyond so many blocks of 1024 bytes.
    const prefix = ['bash', '-c', `ulimit -f ${blocks}; exec "$0" "$@"`];
    const full = await folder.run(job, { prefix });
    expect(full.message).toContain(`no room to write ${folder.at(file)} (EFBIG); make room: `);
    expect(full.status).toBe(4);
    expect(full.summary!.rows.done).toBeGreaterThan(0);
    expect(folder.has('out.csv')).toBe(false);
    const again = await folder.run(job);
    expect(again).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS, reused: full.summary!.rows.done } } });
    expect(folder.read('out.csv')).toBe(whole.read('out.csv'));
  });
});

/** Of a line of CSV whose last cell may be quoted. */
function lastCell(line: string): string {
  const quoted = /,"((?:[^"]|"")*)"$/.exec(line);
  return quoted ? quoted[1]!.replaceAll('""', '"') : line.slice(line.lastIndexOf(',') + 1);
}
