import { describe, expect, it } from 'vitest';
import { weightSharesOf } from '../../../src/llm/percent.ts';

function sharesOf(percent: readonly number[], tier: 'cpu' | 'gpu') {
  const notices: string[] = [];
  return { shares: weightSharesOf(percent, tier, (notice) => notices.push(notice)), notices };
}

describe("FlexGen's six numbers", () => {
  it('are shares on the GPU and in RAM, where there is a GPU', () => {
    expect(sharesOf([20, 30, 100, 0, 100, 0], 'gpu')).toEqual({ shares: { resident: 0.2, held: 0.3 }, notices: [] });
    expect(sharesOf([20, 30, 50, 50, 0, 100], 'gpu')).toEqual({
      shares: { resident: 0.2, held: 0.3 },
      notices: ['what --percent puts into RAM of the KV cache and the hidden states stays on the GPU'],
    });
  });

  it('are both in RAM without one, with a notice if the GPU has some', () => {
    expect(sharesOf([20, 30, 0, 100, 0, 100], 'cpu')).toEqual({
      shares: { resident: 0.5, held: 0 },
      notices: ['there is no GPU: what --percent puts there stays in RAM'],
    });
    expect(sharesOf([0, 30, 0, 100, 0, 100], 'cpu').notices).toEqual([]);
  });

  it.each([
    [[1, 2, 3], /six integers/],
    [[0.5, 0, 0, 100, 0, 100], /six integers/],
    [[60, 60, 0, 100, 0, 100], /60 \+ 60 percent of the weights are more than all/],
    [[0, 0, 0, 50, 0, 100], /KV cache: 50 percent on disk/],
  ])('are refused as %j', (percent, message) => {
    expect(() => sharesOf(percent, 'gpu')).toThrow(message);
  });
});
