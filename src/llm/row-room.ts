/** Room for rows that are known before they are read. */
import type { PlanOptions } from '../engine/execution-plan.ts';
import type { ExpectedRows, GenerationParams } from '../requests.ts';
import { DEFAULT_PARAMS } from './params.ts';

/** `defaults`: of requests that do not say how much they want. Rows end where the context does. */
export function rowRoom(rows: ExpectedRows, defaults: GenerationParams, contextLength: number): Pick<PlanOptions, 'rows' | 'scores'> {
  const { count, promptTokens, maxTokens = 0, leaveLimit = rows.maxTokens === undefined } = rows;
  const usual = leaveLimit ? (defaults.maxTokens ?? DEFAULT_PARAMS.maxTokens) : 0;
  const most = Math.max(maxTokens, usual);
  const generated = scoresOf(Math.min(most, contextLength), rows.logprobs, defaults.logprobs);
  const prompt = scoresOf(Math.min(promptTokens, contextLength), rows.promptLogprobs, defaults.promptLogprobs);
  return { rows: rows.others ? undefined : { count, positions: promptTokens + most }, scores: generated + prompt };
}

/** Log-probabilities of so many positions: of each, that of the token and those of the alternatives. */
function scoresOf(positions: number, ...alternatives: readonly (number | undefined)[]): number {
  const wanted = alternatives.filter((count) => count !== undefined);
  return wanted.length === 0 ? 0 : positions * (1 + Math.max(...wanted));
}
