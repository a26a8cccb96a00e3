/** Room of the cache for rows that are known before they are read. */
import type { PlanOptions } from '../engine/execution-plan.ts';
import type { ExpectedRows, GenerationParams } from '../requests.ts';
import { DEFAULT_PARAMS } from './params.ts';

/** `defaults`: of requests that do not say how much they want. */
export function rowRoom(rows: ExpectedRows, defaults: GenerationParams): PlanOptions['rows'] {
  const { count, promptTokens, maxTokens = 0, leaveLimit = rows.maxTokens === undefined } = rows;
  const usual = leaveLimit ? (defaults.maxTokens ?? DEFAULT_PARAMS.maxTokens) : 0;
  return { count, positions: promptTokens + Math.max(maxTokens, usual) };
}
