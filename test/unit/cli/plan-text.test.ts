import { describe, expect, it } from 'vitest';
import { createProgress } from '../../../src/cli/progress.ts';
import type { ExecutionPlan } from '../../../src/engine/execution-plan.ts';

const PLAN: ExecutionPlan = {
  gpuBatchSize: 64,
  numGpuBatches: 1,
  batchTokens: 512,
  headRows: 128,
  kvType: 'f16',
  kvPages: [512],
  bytes: { weights: 22_000_000, kv: 202_000_000, hidden: 500_000, logits: 1_000_000, scratch: 21_000_000, total: 246_500_000 },
};

function written(mode: 'line' | 'json' | 'off'): string {
  const texts: string[] = [];
  const progress = createProgress({ mode, write: (text) => texts.push(text), now: () => 0, memory: () => 0, columns: () => 80 });
  progress.plan(PLAN);
  return texts.join('');
}

describe('the plan', () => {
  it('is one line with the largest item first', () => {
    expect(written('line')).toMatch(/memory: up to 24\d MB \(KV cache 202 MB, weights 22(\.0)? MB, .*\) beside the program itself\n$/);
  });

  it('is a line of JSON for programs', () => {
    expect(JSON.parse(written('json'))).toEqual({ type: 'plan', plan: PLAN });
  });

  it('is silent without a terminal', () => {
    expect(written('off')).toBe('');
  });
});
