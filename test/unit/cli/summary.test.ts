import { describe, expect, it } from 'vitest';
import type { JobSummary } from '../../../src/batch/types.ts';
import { renderDemo } from '../../../src/cli/demo.ts';
import { modelIdentity } from '../../../src/cli/model.ts';
import { renderSummary } from '../../../src/cli/run.ts';
import { UsageError } from '../../../src/util/errors.ts';

const SUMMARY: JobSummary = {
  rows: { total: 1200, done: 1190, failed: 10, reused: 0 },
  tokens: { prompt: 20_000, promptComputed: 8000, promptShared: 12_000, generated: 5000 },
  seconds: { load: 0.5, prefill: 3, decode: 2, total: 65 },
  tokensPerSecond: { generated: 1000, total: 5000 },
  peakBytes: { cpu: 174_000_000, gpu: 0, disk: 0 },
  kernels: 'ggml cpu zen4, 2 threads',
  lanes: [],
};

describe('the summary for people', () => {
  it('has rows, tokens, rates, times and memory', () => {
    expect(renderSummary(SUMMARY)).toBe(
      [
        '  rows         1,190 of 1,200, 10 failed',
        '  tokens       5,000 generated, 20,000 in prompts, 12,000 of them shared',
        '  tokens/s     1,000 generated, 5,000 with prompts',
        '  time         1 min 05 s (load 0.50 s, prefill 3.00 s, decode 2.00 s)',
        '  peak memory  174 MB',
        '  kernels      ggml cpu zen4, 2 threads (own kernels are not used: large batches take several times as long; flexllmgen doctor says why)',
        '',
      ].join('\n'),
    );
  });

  it('leaves out what did not happen', () => {
    const nothing = { prompt: 0, promptComputed: 0, promptShared: 0, generated: 0 };
    const text = renderSummary({ ...SUMMARY, rows: { total: 5, done: 5, failed: 0, reused: 5 }, tokens: nothing, kernels: '' });
    expect(text).toMatch(/^ {2}rows +5 of 5, 5 from an earlier run\n {2}time .*\n {2}peak memory +174 MB\n$/);
  });

  it.each([
    ['computing alone, which waits for nothing', [{ lane: 'compute', busySeconds: 50, bytes: 0, pieces: 9 }], undefined],
    [
      'the lane that the others wait for',
      [
        { lane: 'disk read', busySeconds: 60, bytes: 120e9, pieces: 900 },
        { lane: 'compute', busySeconds: 52, bytes: 0, pieces: 900 },
      ],
      'compute 80 % busy; disk read 92 % busy, 120 GB, 2.00 GB/s (bottleneck)',
    ],
    [
      'computation as the bottleneck',
      [
        { lane: 'upload', busySeconds: 13, bytes: 13e9, pieces: 9 },
        { lane: 'compute', busySeconds: 65, bytes: 0, pieces: 9 },
      ],
      'compute 100 % busy (bottleneck); upload 20 % busy, 13.0 GB, 1.00 GB/s',
    ],
  ] as const)('has lanes: %s', (_, lanes, expected) => {
    expect(/^ {2}lanes +(.*)$/m.exec(renderSummary({ ...SUMMARY, lanes }))?.[1]).toBe(expected);
  });

  it('of the demo shows a row of each task and counts right answers', () => {
    const example = { task: 'date', input: '5/5/84', expected: '1984-05-05', answer: '1984-05-05' };
    const wrong = { task: 'match', input: 'x', expected: 'Yes', answer: 'No' };
    const text = renderDemo(
      [
        { task: 'date', right: 3, rows: 3, example },
        { task: 'match', right: 0, rows: 1, example: wrong },
      ],
      SUMMARY,
      '/tmp/out.csv',
    );
    expect(text).toMatch(/^ {2}date +5\/5\/84 +1984-05-05 +right\n {2}match +x +No +wrong\n/m);
    expect(text).toMatch(/^ {2}date +3 \/ 3 +100\.0 %\n {2}match +0 \/ 1 +0\.0 %\n {2}all +3 \/ 4 +75\.0 %\n/m);
    expect(text).toMatch(/\nWritten to \/tmp\/out\.csv\n$/);
  });
});

describe('what decides the answers', () => {
  const options = { device: 'cpu', compute: 'auto', kvType: 'f16' } as const;
  it.each([
    ['the bundled model without -m', options, { weights: 'files', kvType: 'f16', model: expect.stringMatching(/tidy-opt-5m$/) as string }],
    ['a folder', { ...options, model: 'dir' }, { model: 'dir', weights: 'files' }],
    ['sparse attention', { ...options, attnSparsity: 0.1 }, { kvType: 'f16', attnSparsity: '0.1' }],
    ['random weights', { ...options, model: 'opt-125m', dummy: true }, { model: 'opt-125m', weights: 'random' }],
  ])('%s', (_, given, expected) => {
    expect(modelIdentity(given)).toMatchObject(expected);
  });

  it('is the same with the default sparsity as without any', () => {
    expect(modelIdentity({ ...options, attnSparsity: 1 })).toEqual(modelIdentity(options));
  });

  it('is nothing for random weights of no shape', () => {
    expect(() => modelIdentity({ ...options, dummy: true })).toThrow(UsageError);
  });
});
