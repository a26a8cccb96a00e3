import { describe, expect, it } from 'vitest';
import { RowSizes } from '../../../src/batch/expected-rows.ts';

const sizesOf = (...rows: Parameters<RowSizes['add']>[0][]) => {
  const sizes = new RowSizes();
  for (const row of rows) sizes.add(row);
  return sizes.expected;
};

describe('RowSizes', () => {
  it('takes the longest prompt, two bytes a token, and the largest limit', () => {
    const rows = sizesOf({ prompt: 'seven b', params: { maxTokens: 9 } }, { prompt: 'äö', params: { maxTokens: 12 } });
    expect(rows).toEqual({ count: 2, promptTokens: 4, maxTokens: 12 });
  });

  it('counts token ids as they are, and what a template adds to messages', () => {
    expect(sizesOf({ prompt: [1, 2, 3, 4, 5], params: { maxTokens: 1 } }).promptTokens).toBe(5);
    const messages = [
      { role: 'system', content: 'four' },
      { role: 'user', content: 'five5' },
    ];
    expect(sizesOf({ prompt: { messages }, params: { maxTokens: 1 } }).promptTokens).toBe(3 * 32 + 2 + 3);
  });

  it('knows no limit if a row leaves it to the model', () => {
    expect(
      sizesOf({ prompt: 'a', params: { maxTokens: 9 } }, { prompt: 'b', params: {} }, { prompt: 'c', params: { maxTokens: 2 } }),
    ).toEqual({
      count: 3,
      promptTokens: 1,
    });
  });
});
