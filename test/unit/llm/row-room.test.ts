import { expect, it } from 'vitest';
import { rowRoom } from '../../../src/llm/row-room.ts';
import type { ExpectedRows, GenerationParams } from '../../../src/requests.ts';

const CONTEXT = 2048;
const roomOf = (rows: ExpectedRows, defaults: GenerationParams = {}) => rowRoom(rows, defaults, CONTEXT);

it('takes the largest limit, and the usual one where a row leaves it to the model', () => {
  const rows = { count: 3, promptTokens: 10 };
  const positionsOf = (more: Partial<ExpectedRows>, defaults?: GenerationParams) => roomOf({ ...rows, ...more }, defaults).rows;
  expect(positionsOf({ maxTokens: 5 })).toEqual({ count: 3, positions: 15 });
  expect(positionsOf({ maxTokens: 5, leaveLimit: true })).toEqual({ count: 3, positions: 266 });
  expect(positionsOf({ maxTokens: 5, leaveLimit: true }, { maxTokens: 20 })).toEqual({ count: 3, positions: 30 });
  expect(positionsOf({ maxTokens: 9000, leaveLimit: true })).toEqual({ count: 3, positions: 9010 });
  expect(positionsOf({})).toEqual({ count: 3, positions: 266 });
});

it('counts log-probabilities of what is generated and of prompts that are scored, those of defaults too', () => {
  const rows = { count: 3, promptTokens: 10, maxTokens: 5 };
  expect(roomOf(rows).scores).toBe(0);
  expect(roomOf({ ...rows, logprobs: 0 }).scores).toBe(5);
  expect(roomOf({ ...rows, logprobs: 2 }, { logprobs: 1 }).scores).toBe(5 * 3);
  expect(roomOf(rows, { logprobs: 4 }).scores).toBe(5 * 5);
  expect(roomOf({ ...rows, promptLogprobs: 1 }).scores).toBe(10 * 2);
  expect(roomOf({ ...rows, logprobs: 20, promptLogprobs: 0 }).scores).toBe(5 * 21 + 10);
  expect(roomOf({ ...rows, maxTokens: 1e5, logprobs: 1 }).scores).toBe(CONTEXT * 2);
});

it('leaves the cache to any others where they may come, but counts what these want beside it', () => {
  const rows = { count: 3, promptTokens: 10, maxTokens: 5, logprobs: 0, others: true };
  expect(roomOf(rows)).toEqual({ rows: undefined, scores: 5 });
});
