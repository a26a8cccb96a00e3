import { expect, it } from 'vitest';
import { rowRoom } from '../../../src/llm/row-room.ts';

it('takes the largest limit, and the usual one where a row leaves it to the model', () => {
  const rows = { count: 3, promptTokens: 10 };
  expect(rowRoom({ ...rows, maxTokens: 5 }, {})).toEqual({ count: 3, positions: 15, scores: 0 });
  expect(rowRoom({ ...rows, maxTokens: 5, leaveLimit: true }, {})).toEqual({ count: 3, positions: 266, scores: 0 });
  expect(rowRoom({ ...rows, maxTokens: 5, leaveLimit: true }, { maxTokens: 20 })).toEqual({ count: 3, positions: 30, scores: 0 });
  expect(rowRoom({ ...rows, maxTokens: 9000, leaveLimit: true }, {})).toEqual({ count: 3, positions: 9010, scores: 0 });
  expect(rowRoom(rows, {})).toEqual({ count: 3, positions: 266, scores: 0 });
});

it('counts log-probabilities of what is generated and of prompts that are scored, those of defaults too', () => {
  const rows = { count: 3, promptTokens: 10, maxTokens: 5 };
  expect(rowRoom({ ...rows, logprobs: 0 }, {})!.scores).toBe(5);
  expect(rowRoom({ ...rows, logprobs: 2 }, { logprobs: 1 })!.scores).toBe(5 * 3);
  expect(rowRoom(rows, { logprobs: 4 })!.scores).toBe(5 * 5);
  expect(rowRoom({ ...rows, promptLogprobs: 1 }, {})!.scores).toBe(10 * 2);
  expect(rowRoom({ ...rows, logprobs: 20, promptLogprobs: 0 }, {})!.scores).toBe(5 * 21 + 10);
});
