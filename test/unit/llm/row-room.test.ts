import { expect, it } from 'vitest';
import { rowRoom } from '../../../src/llm/row-room.ts';

it('takes the largest limit, and the usual one where a row leaves it to the model', () => {
  const rows = { count: 3, promptTokens: 10 };
  expect(rowRoom({ ...rows, maxTokens: 5 }, {})).toEqual({ count: 3, positions: 15 });
  expect(rowRoom({ ...rows, maxTokens: 5, leaveLimit: true }, {})).toEqual({ count: 3, positions: 266 });
  expect(rowRoom({ ...rows, maxTokens: 5, leaveLimit: true }, { maxTokens: 20 })).toEqual({ count: 3, positions: 30 });
  expect(rowRoom({ ...rows, maxTokens: 9000, leaveLimit: true }, {})).toEqual({ count: 3, positions: 9010 });
  expect(rowRoom(rows, {})).toEqual({ count: 3, positions: 266 });
});
