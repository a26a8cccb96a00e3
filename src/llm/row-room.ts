/** Room of the cache for rows that are known before they are read. */
import type { PlanOptions } from '../engine/execution-plan.ts';
import type { ExpectedRows, GenerationParams } from '../requests.ts';
import { DEFAULT_PARAMS } from './params.ts';

/** `defaults`: of requests that do not say how much they want. */
export function rowRoom({ count, promptTokens, maxTokens }: ExpectedRows, defaults: GenerationParams): PlanOptions['rows'] {
  return { count, positions: promptTokens + (maxTokens ?? defaults.maxTokens ?? DEFAULT_PARAMS.maxTokens) };
}
