import { describe, expect, it } from 'vitest';
import { undisturbed } from '../../../bench/child.ts';
import type { Rates } from '../../../bench/workload.ts';

const rates = (prefill: number, decode: number): Rates => ({ threads: 2, prefill: 1, decode: 1, busy: { prefill, decode } });

describe('undisturbed', () => {
  it.each<[string, Rates[], { rates?: Rates; discarded: number }]>([
    ['takes a quiet run', [rates(0.95, 1)], { rates: rates(0.95, 1), discarded: 0 }],
    [
      'discards runs in which one part was disturbed',
      [rates(0.94, 1), rates(1, 0.5), rates(1, 0.99)],
      { rates: rates(1, 0.99), discarded: 2 },
    ],
    ['gives up', [rates(0.9, 1), rates(0.9, 1), rates(0.9, 1), rates(1, 1)], { discarded: 3 }],
  ])('%s', async (_, runs, wanted) => {
    const left = [...runs];
    expect(await undisturbed(() => Promise.resolve(left.shift()!))).toEqual(wanted);
  });
});
