import { describe, expect, it } from 'vitest';
import { EXIT } from '../../../src/cli/exit-code.ts';
import { runCli, type CliActions } from '../../../src/cli/program.ts';
import { FormatError, UsageError } from '../../../src/util/errors.ts';

interface Outcome {
  readonly status: number;
  readonly out: string;
  readonly err: string;
  /** Command, and what it was called with. */
  readonly calls: readonly unknown[][];
}

async function cli(args: readonly string[], fail?: Error): Promise<Outcome> {
  const calls: unknown[][] = [];
  const action =
    (name: string) =>
    async (...given: unknown[]): Promise<number> => {
      calls.push([name, ...given]);
      if (fail !== undefined) throw fail;
      return EXIT.ok;
    };
  const actions: CliActions = {
    run: action('run'),
    generate: action('generate'),
    doctor: action('doctor'),
    inspect: action('inspect'),
    demo: action('demo'),
    convert: action('convert'),
    verify: action('verify'),
    models: action('models'),
    trace: action('trace'),
    benchOpt: action('benchOpt'),
  };
  let out = '';
  let err = '';
  const status = await runCli(args, actions, { out: (text) => void (out += text), err: (text) => void (err += text) });
  return { status, out, err, calls };
}

const IO = ['-i', 'in.csv', '-o', 'out.csv'];

/** Of every command that opens a model. */
const MODEL_DEFAULTS = {
  device: 'cpu',
  compute: 'auto',
  convert: 'auto',
  dtype: 'auto',
  kvType: 'auto',
  checksums: true,
  sharePrefixes: true,
};

describe('options', () => {
  it('reach the command, typed', async () => {
    const words =
      '-m dir --column name --format jsonl --max-tokens 7 --temperature 0.5 --top-k 40 --top-p 0.9 --min-p 0.05 --repetition-penalty 1.1 --presence-penalty -0.5 --frequency-penalty .25 --seed 4294967295 --ignore-eos --logprobs 0 ' +
      '--gpu-batch-size 8 --num-gpu-batches 2 --device vulkan --compute f32 --kv-type f16 --attn-sparsity 0.1 --dtype q4 --convert never --trace t.json --threads 2 --force --restart --retry-failed --json --quiet';
    const { status, calls } = await cli([
      'run',
      ...IO,
      ...words.split(' '),
      '--stop',
      String.raw`\n`,
      '--stop',
      'end',
      '--prompt',
      String.raw`a\n{{b}}\\n`,
    ]);
    expect(status).toBe(EXIT.ok);
    expect(calls).toEqual([
      [
        'run',
        {
          input: 'in.csv',
          output: 'out.csv',
          model: 'dir',
          column: 'name',
          format: 'jsonl',
          maxTokens: 7,
          temperature: 0.5,
          topK: 40,
          topP: 0.9,
          minP: 0.05,
          repetitionPenalty: 1.1,
          presencePenalty: -0.5,
          frequencyPenalty: 0.25,
          seed: 2 ** 32 - 1,
          ignoreEos: true,
          logprobs: 0,
          gpuBatchSize: 8,
          numGpuBatches: 2,
          device: 'vulkan',
          compute: 'f32',
          convert: 'never',
          dtype: 'q4',
          kvType: 'f16',
          attnSparsity: 0.1,
          checksums: true,
          sharePrefixes: true,
          trace: 't.json',
          threads: 2,
          force: true,
          restart: true,
          retryFailed: true,
          json: true,
          quiet: true,
          stop: ['\n', 'end'],
          prompt: String.raw`a` + '\n' + String.raw`{{b}}\n`,
        },
      ],
    ]);
  });

  it('are left out when not given, so that the model decides', async () => {
    const { calls } = await cli(['run', ...IO]);
    expect(calls).toEqual([
      [
        'run',
        {
          input: 'in.csv',
          output: 'out.csv',
          ...MODEL_DEFAULTS,
        },
      ],
    ]);
  });

  it('of a conversation understand newlines', async () => {
    const { calls } = await cli(['run', ...IO, '--system', String.raw`a\nb`, '--user', String.raw`{{c}}\t`]);
    expect(calls[0]?.[1]).toMatchObject({ system: 'a\nb', user: '{{c}}\t' });
  });

  it('take standard input as -', async () => {
    const { calls } = await cli(['run', '-i', '-', '-o', 'x', '--format', 'csv']);
    expect(calls[0]?.[1]).toMatchObject({ input: '-', format: 'csv' });
  });

  it('leave prompts of generate as they are typed', async () => {
    const { calls } = await cli(['generate', 'one', String.raw`two\n`, '--json']);
    expect(calls).toEqual([
      [
        'generate',
        ['one', String.raw`two\n`],
        {
          ...MODEL_DEFAULTS,
          json: true,
        },
      ],
    ]);
  });
});

describe('wrong usage', () => {
  it.each([
    ['run -o x', "required option '-i, --input <file>' not specified"],
    ['run -i x', "required option '-o, --output <file>' not specified"],
    ['run --max-tokens 0', 'Expected an integer, 1 or more.'],
    ['run --max-tokens 1.5', 'Expected an integer, 1 or more.'],
    ['run --max-tokens 1e3', 'Expected an integer, 1 or more.'],
    ['run --temperature -0.1', 'Expected a number in [0, 100].'],
    ['run --temperature warm', 'Expected a number in [0, 100].'],
    ['run --temperature NaN', 'Expected a number in [0, 100].'],
    ['run --top-k -1', 'Expected an integer, 0 or more.'],
    ['run --top-p 0', 'Expected a number in (0, 1].'],
    ['run --top-p 1.01', 'Expected a number in (0, 1].'],
    ['run --min-p 1.1', 'Expected a number in [0, 1].'],
    ['run --repetition-penalty 0', 'Expected a number in (0, 100].'],
    ['run --presence-penalty -2.5', 'Expected a number in [-2, 2].'],
    ['run --frequency-penalty 3', 'Expected a number in [-2, 2].'],
    ['run --seed 4294967296', 'Expected an integer from 0 to 4294967295.'],
    ['run --logprobs 21', 'Expected an integer from 0 to 20.'],
    ['run --gpu-batch-size 0', 'Expected an integer, 1 or more.'],
    ['run --num-gpu-batches 0x10', 'Expected an integer, 1 or more.'],
    ['run --threads 9999', 'Expected an integer from 1 to 1024.'],
    ['run --device tpu', 'Allowed choices are cpu, gpu, auto, cuda, metal, vulkan.'],
    ['run --compute f64', 'Allowed choices are auto, f32.'],
    ['run --attn-sparsity 0', 'Expected a number in (0, 1]'],
    ['run --attn-sparsity 1.5', 'Expected a number in (0, 1]'],
    ['run --kv-type q4', 'Allowed choices are auto, f32, f16, bf16, q8_0, q4_0, q4_1, g4.'],
    ['run --format xml', 'Allowed choices are csv, jsonl.'],
    ['run -i x -o y --max-token 3', 'Did you mean --max-tokens?'],
    ['run -i x -o y surplus', 'too many arguments'],
    ['rum', 'Did you mean run?'],
    ['doctor --jsn', 'Did you mean --json?'],
  ])('%s', async (line, message) => {
    const { status, err, out, calls } = await cli(line.split(' '));
    expect(err).toContain(message);
    expect({ status, out, calls }).toEqual({ status: EXIT.usage, out: '', calls: [] });
  });

  it.each([['--stop'], ['--input'], ['--column'], ['--model'], ['--trace']])('%s with nothing', async (flag) => {
    expect(await cli(['run', ...IO, flag, ''])).toMatchObject({ status: EXIT.usage, calls: [] });
  });

  it('no command at all shows what there is', async () => {
    const { status, err } = await cli([]);
    expect(status).toBe(EXIT.usage);
    expect(err).toContain('Commands:');
  });
});

describe('help', () => {
  it.each(['run', 'generate', 'doctor', 'demo', 'trace'])('of %s has two examples', async (command) => {
    const { status, out, calls } = await cli([command, '--help']);
    expect({ status, calls }).toEqual({ status: EXIT.ok, calls: [] });
    expect(out.match(new RegExp(`^  \\$ flexllmgen ${command}`, 'gm'))).toHaveLength(2);
  });

  it('knows the version', async () => {
    expect(await cli(['--version'])).toMatchObject({ status: EXIT.ok, out: expect.stringMatching(/^\d+\.\d+\.\d+\n$/) });
  });
});

describe('errors', () => {
  const abort = new DOMException('This operation was aborted', 'AbortError');
  it.each([
    ['wrong usage', new UsageError('no such file'), EXIT.usage, 'flexllmgen: no such file\n'],
    ['a foreseen failure', new FormatError('a.bin', 'is cut off'), EXIT.failed, 'flexllmgen: a.bin: is cut off\n'],
    ['of the system', Object.assign(new Error('EACCES: denied'), { syscall: 'open' }), EXIT.failed, 'flexllmgen: EACCES: denied\n'],
    ['an interruption', abort, EXIT.interrupted, 'flexllmgen: interrupted\n'],
  ])('%s', async (_, error, status, err) => {
    expect(await cli(['doctor'], error)).toMatchObject({ status, err });
  });

  it('have a stack when they are not foreseen', async () => {
    const { status, err } = await cli(['doctor'], new TypeError('x is undefined'));
    expect(status).toBe(EXIT.failed);
    expect(err).toMatch(/^flexllmgen: TypeError: x is undefined\n\s+at /);
  });

  it('are JSON where JSON is asked for', async () => {
    const { err } = await cli(['doctor', '--json'], new UsageError('no\nfile'));
    expect(JSON.parse(err)).toEqual({ type: 'error', message: 'no\nfile' });
  });

  it.each([
    ['run -i x -o y --json --bogus', "unknown option '--bogus'"],
    ['run --temperature warm --json', 'Expected a number in [0, 100].'],
    ['run -i x --json', "required option '-o, --output <file>' not specified"],
    ['generate --json --device tpu', 'Allowed choices are cpu'],
    ['rum --json', "unknown command 'rum'"],
    ['--json', "unknown option '--json'"],
  ])('of usage too: %s', async (line, message) => {
    const { status, out, err } = await cli(line.split(' '));
    expect(JSON.parse(err)).toEqual({ type: 'error', message: expect.stringContaining(message) });
    expect(JSON.parse(err).message).not.toMatch(/^error:/);
    expect({ status, out }).toEqual({ status: EXIT.usage, out: '' });
  });

  it('are for people where --json is a prompt', async () => {
    expect(await cli(['generate', '--', '--json'], new UsageError('no'))).toMatchObject({ err: 'flexllmgen: no\n' });
  });
});
