import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { cli, jsonLines } from '../helpers/cli.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeEach(async () => void (folder = await makeTemporaryFolder()));
afterEach(() => folder[Symbol.asyncDispose]());

const DUMMY = ['bench-opt', '--model', 'facebook/opt-125m', '--path', '_DUMMY_', '--threads', '1'];
const run = async (args: readonly string[]) => cli(args, { cwd: folder.path });

/** Latency and throughput of the last three lines, as FlexGen's own reader finds them. */
const LATENCIES = /^(prefill|decode|total) latency: (\d+\.\d{3}) s\t\1 throughput: (\d+\.\d{3}) token\/s$/;

describe('flexllmgen bench-opt', () => {
  it('runs with half of the weights streamed, and appends to a log that is named by its flags', async () => {
    const shape = [
      '--prompt-len',
      '24',
      '--gen-len',
      '4',
      '--gpu-batch-size',
      '2',
      '--num-gpu',
      '2',
      '--percent',
      '0',
      '50',
      '0',
      '100',
      '0',
      '100',
    ];
    const { status, stdout, stderr } = await run([...DUMMY, ...shape, '--cpu', '--compress-weight', 'no']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    expect(stdout).toMatch(/rows +2 x 2 of 24 \+ 4 tokens\n/);
    expect(stdout).toMatch(/projected +no\n/);
    const name = 'fo-125m-gbs2-ngbs2-prompt24-gen4-percent-0-50-0-100-0-100-cpu-cache.log';
    expect(readdirSync(folder.path)).toEqual([name]);
    await run([...DUMMY, ...shape, '--cpu', '--verbose', '0']);
    const lines = readFileSync(join(folder.path, name), 'utf8').split('\n');
    expect(lines.length).toBe(11);
    expect(lines.slice(0, 2)).toEqual([
      'model size: 0.230 GB\tcache size: 0.004 GB\thidden size (p): 0.000 GB',
      'peak gpu mem: 0.000 GB\tprojected: False',
    ]);
    const [prefill, decode, total] = lines.slice(2, 5).map((line) => LATENCIES.exec(line)!.slice(2).map(Number));
    expect(total![0]).toBeCloseTo(prefill![0]! + decode![0]!, 2);
    expect(total![0]! * total![1]!).toBeCloseTo(4 * 4, 1);
    expect(prefill![0]! * prefill![1]!).toBeCloseTo(4 * 24, 0);
  });

  it('projects what was cut, in one line of JSON, and writes no log if it must not', async () => {
    const args = ['--prompt-len', '8', '--gen-len', '32', '--cut-gen-len', '5', '--no-log', '--json', '--gpu-batch-size', '2'];
    const { status, stdout } = await run([...DUMMY, ...args]);
    const [report, ...rest] = jsonLines(stdout);
    expect({ status, rest }).toEqual({ status: 0, rest: [] });
    expect(report).toMatchObject({
      model: 'opt-125m',
      weights: 'random',
      task: { gpuBatchSize: 2, numGpuBatches: 1, promptTokens: 8, newTokens: 32, cutTokens: 5 },
      projected: true,
      logFile: null,
      peakBytes: { gpu: 0, cpu: expect.any(Number), disk: 0 },
    });
    expect(readdirSync(folder.path)).toEqual([]);
  });

  it('runs sparse attention over a compressed cache, and says so', async () => {
    const args = [
      '--prompt-len',
      '40',
      '--gen-len',
      '4',
      '--no-log',
      '--gpu-batch-size',
      '2',
      '--attn-sparsity',
      '0.1',
      '--compress-cache',
    ];
    const json = jsonLines((await run([...DUMMY, ...args, '--json'])).stdout);
    expect(json).toMatchObject([{ attnSparsity: 0.1, task: { gpuBatchSize: 2 } }]);
    expect((await run([...DUMMY, ...args])).stdout).toMatch(/attention +values of 10 % of the past positions\n/);
  });

  it('shows the first and the last text of a model that has some', async () => {
    const args = ['bench-opt', '--model', 'tidy-opt-5m', '--prompt-len', '16', '--gen-len', '6', '--no-log', '--threads', '1'];
    expect((await run(args)).stdout).toMatch(/\n\n {2}row 0 .*\n {2}row 3 .*\n$/);
    expect((await run([...args, '--verbose', '1'])).stdout).not.toContain('row 0');
  });

  it('refuses what cannot be had with 2', async () => {
    for (const args of [
      ['--percent', '0', '50', '60', '60', '0', '100'],
      ['--prompt-len', '2048'],
    ]) {
      const { status, stdout, stderr } = await run([...DUMMY, ...args]);
      expect({ status, stdout }).toEqual({ status: 2, stdout: '' });
      expect(stderr).toMatch(/60 \+ 60 percent of the KV cache are more than all|context is 2048/);
    }
    expect(readdirSync(folder.path)).toEqual([]);
  });
});

describe('--plan-out and --plan', () => {
  const generate = [
    'generate',
    '--threads',
    '1',
    '-m',
    'opt-125m',
    '--dummy',
    '--token-ids',
    '--max-tokens',
    '3',
    '--ignore-eos',
    '2 100 200',
    '7 8',
  ];

  it('run the same again, with the same answers', async () => {
    const first = await run([...generate, '--percent', '0', '50', '0', '100', '0', '100', '--gpu-batch-size', '3', '--plan-out', 'a.json']);
    expect(first).toMatchObject({ status: 0, stderr: '' });
    const again = await run([...generate, '--plan', 'a.json', '--plan-out', 'b.json']);
    expect(again).toEqual(first);
    const [a, b] = ['a.json', 'b.json'].map((name) => readFileSync(join(folder.path, name), 'utf8'));
    expect(b).toBe(a);
    const { numGpuBatches } = JSON.parse(a!) as { numGpuBatches: number };
    expect(JSON.parse(a!)).toMatchObject({ gpuBatchSize: 3, weights: { share: 0.5, slots: 3 } });
    const bench = await run([...DUMMY, '--prompt-len', '8', '--gen-len', '2', '--no-log', '--json', '--plan', 'a.json']);
    expect(jsonLines(bench.stdout)[0]).toMatchObject({ task: { gpuBatchSize: 3, numGpuBatches }, percent: [0, 50, 0, 100, 0, 100] });
  });

  it('refuse another model, other flags and other files', async () => {
    await run([...generate, '--plan-out', 'a.json']);
    const other = await run(['generate', '--plan', 'a.json', 'x']);
    expect(other).toMatchObject({ status: 2, stderr: expect.stringMatching(/^flexllmgen: plan: bytes\.\w+: \d+ expected .*, got \d+\n$/) });
    expect(await run([...generate, '--plan', 'a.json', '--gpu-batch-size', '3'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('gpuBatchSize: 3 expected'),
    });
    writeFileSync(join(folder.path, 'rows.csv'), 'a\nb\n');
    expect(await run([...generate, '--plan', 'rows.csv'])).toMatchObject({ status: 1, stderr: expect.stringContaining('rows.csv') });
    expect(await run([...generate, '--plan-out', 'rows.csv'])).toMatchObject({
      status: 2,
      stderr: expect.stringContaining('something else has this name'),
    });
    expect(readFileSync(join(folder.path, 'rows.csv'), 'utf8')).toBe('a\nb\n');
    const table = ['run', '-i', 'rows.csv', '-o', 'out.csv', '--prompt', '{{a}}', '--plan-out', './out.csv'];
    expect(await run(table)).toMatchObject({ status: 2, stderr: expect.stringContaining('is the output') });
  });
});
