/** Room for rows that are known before they are read. */
import type { PlanOptions } from '../engine/execution-plan.ts';
import type { ExpectedRows, GenerationParams } from '../requests.ts';
import { DEFAULT_PARAMS } from './params.ts';

/** `defaults`: of requests that do not say how much they want. */
export function rowRoom(rows: ExpectedRows, defaults: GenerationParams): PlanOptions['rows'] {
  const { count, promptTokens, maxTokens = 0, leaveLimit = rows.maxTokens === undefined } = rows;
  const usual = leaveLimit ? (defaults.maxTokens ?? DEFAULT_PARAMS.maxTokens) : 0;
  const most = Math.max(maxTokens, usual);
  const generated = scoresOf(most, rows.logprobs, defaults.logprobs);
  const prompt = scoresOf(promptTokens, rows.promptLogprobs, defaults.promptLogprobs);
  return { count, positions: promptTokens + most, scores: generated + prompt };
}

/** Log-probabilities of so many positions: of each, that of the token and those of the alternatives. */
function scoresOf(positions: number, ...alternatives: readonly (number | undefined)[]): number {
  const wanted = alternatives.filter((count) => count !== undefined);
  return wanted.length === 0 ? 0 : positions * (1 + Math.max(...wanted));
}
