import { describe, expect, test } from 'vitest';
import { LogprobList } from '../../../src/sampling/logprob-list.ts';
import type { PositionLogprobs } from '../../../src/sampling/params.ts';

/** `count` positions; every third has fewer alternatives than the list has room for. */
const positions = (count: number, alternatives: number): PositionLogprobs[] =>
  Array.from({ length: count }, (_, i) => ({
    id: i,
    logprob: i % 5 === 0 ? -Infinity : -i / 3,
    top: Array.from({ length: i % 3 === 0 ? i % (alternatives + 1) : alternatives }, (_top, j) => ({ id: j, logprob: -j / 7 - i })),
  }));

describe('LogprobList', () => {
  for (const alternatives of [0, 1, 5, 20])
    test.each([0, 1, 63, 64, 65, 300])(`gives back %i positions with up to ${alternatives} alternatives`, (count) => {
      const list = new LogprobList(alternatives);
      for (const position of positions(count, alternatives)) list.push(position);
      expect(list.length).toBe(count);
      expect(list.toArray()).toEqual(positions(count, alternatives));
    });

  test('what it gave does not change with what comes later', () => {
    const list = new LogprobList(1);
    for (const position of positions(2, 1)) list.push(position);
    const early = list.toArray();
    list.push({ id: 9, logprob: -9, top: [] });
    expect(early).toEqual(positions(2, 1));
    expect(list.toArray()[2]).toEqual({ id: 9, logprob: -9, top: [] });
  });
});
