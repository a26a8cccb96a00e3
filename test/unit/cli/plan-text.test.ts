import { describe, expect, it } from 'vitest';
import { createProgress } from '../../../src/cli/progress.ts';
import type { ExecutionPlan } from '../../../src/engine/execution-plan.ts';

const PLAN: ExecutionPlan = {
  gpuBatchSize: 64,
  numGpuBatches: 1,
  batchTokens: 512,
  sweepChunks: 1,
  headRows: 128,
  kvType: 'f16',
  kvPages: [512],
  kvDisk: null,
  hiddenOnDisk: 0,
  attnSparsity: 1,
  weights: { share: 1, slots: 0, streamedBytes: 0 },
  bytes: {
    weights: 22_000_000,
    ring: 0,
    staging: 0,
    kv: 202_000_000,
    staged: 0,
    hidden: 500_000,
    logits: 1_000_000,
    scratch: 21_000_000,
    program: 0,
    results: 0,
    total: 246_500_000,
  },
};

function written(mode: 'line' | 'json' | 'off', plan = PLAN): string {
  const texts: string[] = [];
  const progress = createProgress({ mode, write: (text) => texts.push(text), now: () => 0, memory: () => 0, columns: () => 80 });
  progress.plan(plan);
  return texts.join('');
}

const NOTHING_BESIDE = { kv: 0, staged: 0, scratch: 0 };

describe('the plan', () => {
  it('is one line with the largest item first', () => {
    expect(written('line')).toMatch(/memory: up to 24\d MB \(KV cache 202 MB, weights 22(\.0)? MB, .*\) beside the program itself\n$/);
  });

  it('says what passes through memory, and counts the program where the budget does', () => {
    const weights = { share: 0.25, slots: 3, streamedBytes: 900_000_000 };
    const text = written('line', {
      ...PLAN,
      weights,
      bytes: { ...PLAN.bytes, ring: 90_000_000, program: 150_000_000, total: 486_500_000 },
    });
    expect(text).toMatch(/memory: up to 48\d MB \(KV cache 202 MB, the program itself 150 MB, weights in passing 90(\.0)? MB, [^)]*\)\n/);
    expect(text).toMatch(/\nweights: 25 % stay in memory, 900 MB are read from disk for every sweep\n$/);
  });

  it('has a line for each memory where there is a GPU, and says what a sweep moves', () => {
    const weights = { share: 0.4, slots: 3, streamedBytes: 900_000_000 };
    const bytes = { weights: 600_000_000, staging: 50_000_000, ...NOTHING_BESIDE, program: 0, total: 650_000_000 };
    const host = { share: 0.35, uploadedBytes: 700_000_000, bytes };
    expect(written('line', { ...PLAN, weights, host })).toMatch(
      new RegExp(
        String.raw`GPU memory: up to 24\d MB \(KV cache 202 MB, [^)]*\)
RAM: up to 650 MB \(weights 600 MB, buffers of reads 50\.0 MB\) beside the ` +
          String.raw`program itself
weights: 40 % stay on the GPU, 35 % in RAM, 700 MB are copied from RAM and 900 MB are read from disk for every sweep
$`,
      ),
    );
    const all = { share: 0, uploadedBytes: 0, bytes: { weights: 0, staging: 0, ...NOTHING_BESIDE, program: 5_000_000, total: 5_000_000 } };
    expect(written('line', { ...PLAN, host: all })).toMatch(/\)\nRAM: up to 5\.00 MB \(the program itself 5\.00 MB\)\n$/);
  });

  it('has the cache in RAM where it lies beside the GPU', () => {
    const cached = { weights: 0, staging: 0, kv: 300_000_000, staged: 0, scratch: 20_000_000, program: 0, total: 320_000_000 };
    expect(written('line', { ...PLAN, host: { share: 0, uploadedBytes: 0, bytes: cached } })).toContain(
      '\nRAM: up to 320 MB (KV cache 300 MB, intermediate results 20.0 MB) beside the program itself',
    );
  });

  it('says that attention is sparse', () => {
    expect(written('line', { ...PLAN, attnSparsity: 0.125 })).toMatch(
      /\nattention: answers use the values of 12.5 % of the positions before them\n$/,
    );
  });

  it('is a line of JSON for programs', () => {
    expect(JSON.parse(written('json'))).toEqual({ type: 'plan', plan: PLAN });
  });

  it('is silent without a terminal', () => {
    expect(written('off')).toBe('');
  });
});
