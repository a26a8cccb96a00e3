import { describe, expect, it } from 'vitest';
import { RowSizes } from '../../../src/batch/expected-rows.ts';

const sizesOf = (...rows: Parameters<RowSizes['add']>[0][]) => {
  const sizes = new RowSizes();
  for (const row of rows) sizes.add(row);
  return sizes.expected;
};

describe('RowSizes', () => {
  it('takes the longest prompt, and the largest limit', () => {
    const rows = sizesOf({ prompt: 'seven b', params: { maxTokens: 9 } }, { prompt: 'no', params: { maxTokens: 12 } });
    expect(rows).toEqual({ count: 2, promptTokens: 4, maxTokens: 12, leaveLimit: false, logprobs: undefined, promptLogprobs: undefined });
  });

  it('takes digits, signs and bytes of other scripts for a token each', () => {
    expect(sizesOf({ prompt: '12.5 km', params: {} }).promptTokens).toBe(4 + 2);
    expect(sizesOf({ prompt: '\u5317\u4eac', params: {} }).promptTokens).toBe(6);
  });

  it('counts token ids as they are, and what a template adds to messages', () => {
    expect(sizesOf({ prompt: [1, 2, 3, 4, 5], params: {} }).promptTokens).toBe(5);
    const messages = [
      { role: 'system', content: 'four' },
      { role: 'user', content: 'fivee' },
    ];
    expect(sizesOf({ prompt: { messages }, params: {} }).promptTokens).toBe(3 * 32 + 2 + 3);
  });

  it('takes the most alternatives that a row wants', () => {
    const rows = sizesOf(
      { prompt: 'a', params: { logprobs: 2 } },
      { prompt: 'b', params: {} },
      { prompt: 'c', params: { logprobs: 0, promptLogprobs: 0 } },
    );
    expect(rows).toMatchObject({ logprobs: 2, promptLogprobs: 0 });
  });

  it('says when a row leaves its limit to the model', () => {
    const rows = sizesOf({ prompt: 'a', params: { maxTokens: 9 } }, { prompt: 'b', params: {} }, { prompt: 'c', params: { maxTokens: 2 } });
    expect(rows).toMatchObject({ count: 3, maxTokens: 9, leaveLimit: true });
  });
});
