import { describe, expect, it } from 'vitest';
import { benchNotices, benchOpt, renderBench, type BenchReport } from '../../../src/cli/bench-opt.ts';
import type { BenchOptions } from '../../../src/cli/bench-options.ts';
import { EXIT } from '../../../src/cli/exit-code.ts';
import { runCli, type CliActions } from '../../../src/cli/program.ts';

/** What `flexllmgen bench-opt` is called with. */
async function parse(words: string): Promise<{ status: number; err: string; options: BenchOptions }> {
  const calls: BenchOptions[] = [];
  const note = async (options: BenchOptions): Promise<number> => calls.push(options) - 1;
  let err = '';
  const args = ['bench-opt', ...words.split(' ').filter((word) => word !== '')];
  const status = await runCli(args, { benchOpt: note } as unknown as CliActions, { out: () => {}, err: (text) => void (err += text) });
  return { status, err, options: calls[0]! };
}

describe('flags of bench-opt', () => {
  it("have the original's defaults", async () => {
    const { options } = await parse('');
    expect(options).toEqual({
      model: 'facebook/opt-6.7b',
      path: '~/opt_weights',
      promptLen: 512,
      genLen: 32,
      logFile: 'auto',
      log: true,
      verbose: 2,
      device: 'cpu',
    });
  });

  it('take a published command line, with shortened flags', async () => {
    const line =
      '--model facebook/opt-175b --path _DUMMY_ --pin-weight 0 --percent 0 50 0 0 0 100 --gpu-batch-size 32 --num-gpu-batches 8 --cpu --debug fewer_batch --sep no';
    expect((await parse(line)).options).toMatchObject({
      model: 'facebook/opt-175b',
      path: '_DUMMY_',
      pinWeight: false,
      percent: [0, 50, 0, 0, 0, 100],
      gpuBatchSize: 32,
      numGpuBatches: 8,
      cpuCacheCompute: true,
      debugMode: 'fewer_batch',
      sepLayer: false,
    });
    const { options } = await parse(
      '--no-log --compress-w --compress-c --cut=5 --attn 1.0 --offload-dir x --json --me 4GiB --plan a --plan-o b',
    );
    expect(options).toMatchObject({
      log: false,
      compressWeight: true,
      compressCache: true,
      cutGenLen: 5,
      attnSparsity: 1,
      offloadDir: 'x',
      json: true,
      mem: 2 ** 32,
      plan: 'a',
      planOut: 'b',
    });
  });

  it.each([
    ['', true],
    [' yes', true],
    [' True', true],
    [' t', true],
    [' Y', true],
    [' 1', true],
    [' no', false],
    [' FALSE', false],
    [' f', false],
    [' n', false],
    [' 0', false],
  ])('that are booleans take "%s"', async (word, value) => {
    expect((await parse(`--overlap${word}`)).options.overlap).toBe(value);
  });

  it.each([
    ['--overlap maybe', 'Expected yes'],
    ['--comp', "ambiguous option '--comp': it could be --compress-weight, --compress-cache"],
    ['--cpus', "unknown option '--cpus'"],
    ['--cut-gen-len 1', 'Expected an integer, 2 or more'],
    ['--attn-sparsity 0', 'Expected a number in (0, 1]'],
    ['--debug-mode all', 'fewer_batch'],
  ])('are refused: %s', async (line, message) => {
    const { status, err } = await parse(line);
    expect(status).toBe(EXIT.usage);
    expect(err).toContain(message);
  });

  it('are shortened for this command only', async () => {
    const status = await runCli(['generate', '--max', '3', 'x'], {} as CliActions, { out: () => {}, err: () => {} });
    expect(status).toBe(EXIT.usage);
  });
});

describe('bench-opt', () => {
  it.each([
    ['--percent 0 50', 'six integers from 0 to 100 expected'],
    ['--log-file nowhere/at/all.log', '--log-file nowhere/at/all.log: its folder cannot be written to'],
  ])('refuses %s before it opens anything', async (line, message) => {
    const { options } = await parse(`--model none --path nowhere ${line}`);
    await expect(benchOpt(options)).rejects.toThrow(message);
    await expect(benchOpt(options)).rejects.toMatchObject({ code: 'usage' });
  });

  it('says what happens instead of what it has no switch for, in one line each', async () => {
    const { options } = await parse('--device cuda --sep-layer --pin-weight no --cpu-cache-compute --debug-mode breakdown');
    const notices = benchNotices(options);
    expect(notices.map((notice) => notice.split(/[ :]/)[0])).toEqual([
      '--sep-layer',
      '--pin-weight',
      '--cpu-cache-compute',
      '--debug-mode',
    ]);
    expect(notices.join('')).not.toContain('\n');
  });

  it.each(['', '--cpu-cache-compute', '--attn-sparsity 0.1'])('says nothing about "%s"', async (line) => {
    expect(benchNotices((await parse(line)).options)).toEqual([]);
  });

  it('shows its results', () => {
    const report: BenchReport = {
      model: 'opt-6.7b',
      weights: 'random',
      kernels: 'kernels avx2, 2 threads',
      task: { gpuBatchSize: 4, numGpuBatches: 2, promptTokens: 512, newTokens: 32, cutTokens: 5 },
      percent: [0, 50, 0, 100, 0, 100],
      attnSparsity: 1,
      bytes: { model: 13.3e9, cache: 2.28e9, hidden: 36e6 },
      peakBytes: { gpu: 0, cpu: 8e9, disk: 6.6e9 },
      projected: true,
      seconds: { prefill: 40, decode: 62, total: 102 },
      tokensPerSecond: { prefill: 102.4, decode: 4, total: 2.51 },
    };
    expect(renderBench(report, 'x.log')).toBe(
      [
        '  model        opt-6.7b, random weights',
        '  rows         4 x 2 of 512 + 32 tokens',
        '  kernels      kernels avx2, 2 threads',
        '  attention    values of all past positions',
        '  model size   13.3 GB in 16 bits',
        '  cache size   2.28 GB in 16 bits',
        '  hidden size  36.0 MB in 16 bits',
        '  peak memory  GPU 0 B, RAM 8.00 GB, weights on disk 6.60 GB',
        '  prefill      40.0 s, 102 tokens/s',
        '  decode       1 min 02 s, 4.00 tokens/s',
        '  total        1 min 42 s, 2.51 tokens/s',
        '  projected    yes: 5 of 32 iterations were run',
        '  log          x.log\n',
      ].join('\n'),
    );
    expect(renderBench({ ...report, projected: false }, undefined)).toMatch(/projected +no\n +log +none\n$/);
  });
});
