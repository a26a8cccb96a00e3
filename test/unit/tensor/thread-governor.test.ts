import { describe, expect, it } from 'vitest';
import { ThreadGovernor } from '../../../src/tensor/thread-governor.ts';

/** Graphs of 10 ms for `seconds`, of whose processor time the machine grants `share`. */
function work(governor: ThreadGovernor, seconds: number, share: number): void {
  for (let at = 0; at < seconds; at += 0.01) governor.record(0.01, 0.01 * governor.threads * share);
}

describe('ThreadGovernor', () => {
  it('keeps all threads on a quiet machine', () => {
    const governor = new ThreadGovernor(8);
    work(governor, 60, 0.97);
    expect(governor.threads).toBe(8);
  });

  it.each([
    [2, 0.5, 1],
    [2, 0.6, 1],
    [8, 0.5, 4],
    [8, 0.64, 5],
    [8, 0.05, 1],
  ])('of %i threads with %f of their time goes down to %i', (most, share, expected) => {
    const governor = new ThreadGovernor(most);
    work(governor, 0.3, share);
    expect(governor.threads).toBe(expected);
  });

  it('tries all threads again, and later each time while cores stay missing', () => {
    const governor = new ThreadGovernor(2);
    const trials: number[] = [];
    for (let at = 0; at < 40; at += 0.01) {
      const before = governor.threads;
      governor.record(0.01, 0.01 * governor.threads * 0.5);
      if (before === 1 && governor.threads === 2) trials.push(at);
    }
    const gaps = trials.map((at, i) => at - (trials[i - 1] ?? 0));
    expect(gaps.length).toBeGreaterThanOrEqual(4);
    expect(gaps.toSorted((a, b) => a - b)).toEqual(gaps);
    expect(gaps[0]).toBeLessThan(2);
  });

  it('returns to all threads once they are free', () => {
    const governor = new ThreadGovernor(4);
    work(governor, 0.3, 0.5);
    work(governor, 3, 1);
    expect(governor.threads).toBe(4);
  });

  it('leaves a single thread alone', () => {
    const governor = new ThreadGovernor(1);
    work(governor, 5, 0.1);
    expect(governor.threads).toBe(1);
  });
});
