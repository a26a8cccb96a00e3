import { describe, expect, it } from 'vitest';
import { sharesOf } from '../../../src/llm/percent.ts';

function sharesAnd(percent: readonly number[], tier: 'cpu' | 'gpu') {
  const notices: string[] = [];
  return { shares: sharesOf(percent, tier, (notice) => notices.push(notice)), notices };
}

describe("FlexGen's six numbers", () => {
  it('are shares on the GPU and in RAM, where there is a GPU', () => {
    expect(sharesAnd([20, 30, 100, 0, 100, 0], 'gpu')).toEqual({
      shares: { weights: { resident: 0.2, held: 0.3 }, cache: 1, cacheBeside: false, hidden: 1 },
      notices: [],
    });
    expect(sharesAnd([20, 30, 100, 0, 0, 100], 'gpu').notices).toEqual([
      'what --percent puts into RAM of the hidden states stays on the GPU',
    ]);
  });

  it('have the cache beside the GPU unless all of it is there', () => {
    expect(sharesAnd([20, 30, 0, 60, 100, 0], 'gpu')).toEqual({
      shares: { weights: { resident: 0.2, held: 0.3 }, cache: 0.6, cacheBeside: true, hidden: 1 },
      notices: [],
    });
    const { shares, notices } = sharesAnd([20, 30, 50, 50, 100, 0], 'gpu');
    expect(shares).toMatchObject({ cache: 1, cacheBeside: true });
    expect(notices).toEqual(['a part of the KV cache is in RAM or on disk, so none of it is on the GPU: its share there goes to RAM']);
  });

  it('are both in RAM without one, with a notice if the GPU has some', () => {
    expect(sharesAnd([20, 30, 0, 100, 0, 100], 'cpu')).toEqual({
      shares: { weights: { resident: 0.5, held: 0 }, cache: 1, cacheBeside: false, hidden: 1 },
      notices: ['there is no GPU: what --percent puts there stays in RAM'],
    });
    expect(sharesAnd([0, 30, 0, 40, 0, 60], 'cpu')).toEqual({
      shares: { weights: { resident: 0.3, held: 0 }, cache: 0.4, cacheBeside: false, hidden: 0.6 },
      notices: [],
    });
  });

  it.each([
    [[1, 2, 3], /six integers/],
    [[0.5, 0, 0, 100, 0, 100], /six integers/],
    [[60, 60, 0, 100, 0, 100], /60 \+ 60 percent of the weights are more than all/],
    [[0, 0, 50, 60, 0, 100], /50 \+ 60 percent of the KV cache are more than all/],
  ])('are refused as %j', (percent, message) => {
    expect(() => sharesAnd(percent, 'gpu')).toThrow(message);
  });
});
