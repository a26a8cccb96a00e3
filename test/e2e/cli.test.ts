import { readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { cli, jsonLines, startCli } from '../helpers/cli.ts';

const DATE = (text: string): string => String.raw`Task: Write the date as YYYY-MM-DD\nInput: ${text}\nOutput:`;

describe('flexllmgen', () => {
  it('says its version and lists its commands', async () => {
    const { version } = JSON.parse(readFileSync(new URL('../../package.json', import.meta.url), 'utf8')) as { version: string };
    expect(await cli(['--version'])).toMatchObject({ status: 0, stdout: `${version}\n`, stderr: '' });
    const help = await cli(['--help']);
    expect(help).toMatchObject({ status: 0, stderr: '' });
    for (const command of ['run', 'generate', 'doctor', 'inspect', 'demo']) expect(help.stdout).toMatch(new RegExp(`^  ${command} `, 'm'));
  });

  it('does not load the tensor library for help and wrong usage', async () => {
    const nodeFlags = ['--no-addons'];
    expect(await cli(['run', '--help'], { nodeFlags })).toMatchObject({ status: 0 });
    expect(await cli(['run', '--top-p', '2'], { nodeFlags })).toMatchObject({ status: 2 });
    // The flag does what this test needs: a command that computes cannot.
    expect((await cli(['generate', 'x'], { nodeFlags })).status).toBe(1);
  });

  it.each([
    ['a misspelt flag', ['doctor', '--jsn'], 'Did you mean --json?'],
    ['a folder that is not there', ['generate', '-m', 'nowhere', 'x'], 'nowhere'],
    ['a shape that nobody published', ['generate', '-m', 'opt-1t', '--dummy', 'x'], 'opt-125m'],
    ['a shape that is taken for a folder', ['generate', '-m', 'opt-125m', 'x'], '--dummy'],
    ['a model without a name', ['generate', '-m', '', 'x'], 'at least one character'],
    ['random weights of nothing', ['generate', '--dummy', 'x'], '-m opt-125m'],
    ['token ids that are words', ['generate', '-m', 'opt-125m', '--dummy', '--token-ids', '1 two'], '"two"'],
    ['an input that is not there', ['run', '-i', 'nothing.csv', '-o', 'x.csv', '--prompt', 'a'], 'nothing.csv'],
  ])('ends with 2 for %s', async (_, args, message) => {
    const { status, stdout, stderr } = await cli(args);
    expect(stderr).toContain(message);
    expect(stderr).not.toMatch(/\n\s+at /);
    expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
  });
});

describe('flexllmgen doctor', () => {
  it('finds what the package brings', async () => {
    const { status, stdout, stderr } = await cli(['doctor', '--json']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [report, ...rest] = jsonLines(stdout);
    expect(rest).toEqual([]);
    expect(report).toMatchObject({
      node: process.version,
      kernels: expect.stringMatching(/^(portable|avx2|vnni|vnni-bf16|amx)$/),
      ggml: { version: expect.stringMatching(/^\d+\.\d+\.\d+$/), backend: expect.stringMatching(/^cpu \w+/) },
      cpu: { threads: expect.any(Number) },
      memory: { availableBytes: expect.any(Number) },
      models: [{ name: 'tidy-opt-5m', origin: 'bundled', type: 'opt' }],
    });
    const missing = report?.['missing'] as { required: boolean; fix: string }[];
    expect(missing.filter(({ required }) => required)).toEqual([]);
    for (const { fix } of missing) expect(fix).toMatch(/^npm install --no-save @node-llama-cpp\/\S+@\d/);
  });

  it('says what is missing when the tensor library is', async () => {
    const { status, stdout } = await cli(['doctor'], { env: { FLEXLLMGEN_GGML_DIR: '/nonexistent' } });
    expect(status).toBe(1);
    expect(stdout).toMatch(/required: the tensor library: .*\/nonexistent/);
  });

  it('is readable', async () => {
    const { status, stdout } = await cli(['doctor']);
    expect(status).toBe(0);
    for (const label of ['processor', 'features', 'threads', 'memory', 'disk', 'ggml', 'kernels', 'tidy-opt-5m'])
      expect(stdout).toContain(label);
  });
});

describe('flexllmgen generate', () => {
  const threads = ['--threads', '1'];

  it('shows one answer', async () => {
    expect(await cli(['generate', ...threads, DATE('27th of October, 1954')])).toEqual({
      status: 0,
      signal: null,
      stdout: ' 1954-10-27\n',
      stderr: '',
    });
  });

  it('answers standard input line by line, in order', async () => {
    const stdin = [DATE('3 May 2001'), DATE('12/23/1964')].join('\n');
    expect(await cli(['generate', ...threads], { stdin })).toMatchObject({ status: 0, stdout: ' 2001-05-03\n 1964-12-23\n' });
  });

  it('ends before a stop string, even if it would begin the next token', async () => {
    expect(await cli(['generate', ...threads, '--stop', '-10', DATE('27th of October, 1954')])).toMatchObject({ stdout: ' 1954\n' });
  });

  it('a prompt that is too long fails alone, with 3', async () => {
    const { status, stdout } = await cli(['generate', ...threads, '--json', 'x '.repeat(2000), DATE('3 May 2001')]);
    expect(status).toBe(3);
    expect(jsonLines(stdout)).toMatchObject([
      { index: 0, error: { code: 'request', message: expect.stringContaining('512') } },
      { index: 1, text: ' 2001-05-03', finishReason: 'stop' },
    ]);
  });

  it('runs a published shape with random weights on token ids', async () => {
    const args = ['generate', ...threads, '-m', 'opt-125m', '--dummy', '--token-ids', '--max-tokens', '3', '--ignore-eos', '2 100 200'];
    const [first, second] = [await cli(args), await cli(args)];
    expect(first.stdout).toMatch(/^\d+ \d+ \d+\n$/);
    expect(second).toEqual(first);
  });

  it('ends without a word when nobody reads on', async () => {
    const { child, result } = startCli(['generate', ...threads], { stdin: `${DATE('3 May 2001')}\n`.repeat(20_000) });
    child.stdout!.once('data', () => child.stdout!.destroy());
    const { status, stdout, stderr } = await result;
    expect({ status, stderr }).toEqual({ status: 4, stderr: '' });
    expect(stdout).toMatch(/^ 2001-05-03\n/);
  });

  it('Ctrl-C ends it while it waits for standard input', async () => {
    const { child, result } = startCli(['generate', ...threads, '--json'], { stdin: null });
    child.stdin!.write(`${DATE('3 May 2001')}\n`);
    await new Promise((resolve) => child.stdout!.once('data', resolve));
    child.kill('SIGINT');
    expect(await result).toMatchObject({ status: 4, stderr: '{"type":"error","message":"interrupted"}\n' });
  });
});
