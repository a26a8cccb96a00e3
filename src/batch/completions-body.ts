/** Bodies of OpenAI's /v1/completions. */
import type { GenerationParams } from '../requests.ts';
import { MAX_TOP_LOGPROBS } from '../sampling/logprobs.ts';
import {
  type Body,
  type BodyRules,
  boolean,
  definedOnly,
  fieldProblem,
  IGNORED,
  integer,
  invalidRequest,
  isIds,
  NEUTRAL,
  SAMPLING,
  samplingParams,
  show,
} from './body-fields.ts';
import { type ParsedRequest, rowRequest } from './rows.ts';

const RULES: BodyRules = {
  free: new Set([...IGNORED, 'prompt']),
  served: { ...SAMPLING, logprobs: integer(0, MAX_TOP_LOGPROBS), echo: boolean },
  neutral: { ...NEUTRAL, best_of: [1], suffix: [''] },
};

/** @param defaults for what the body leaves out */
export function readCompletions(body: Body, defaults: GenerationParams): ParsedRequest {
  const problem = fieldProblem(body, RULES);
  if (problem !== undefined) return { problem };
  const maxTokens = typeof body.max_tokens === 'number' ? body.max_tokens : defaults.maxTokens;
  const echo = body.echo === true;
  if (maxTokens === 0 && !echo) return { problem: invalidRequest('max_tokens', 'max_tokens must be at least 1 without echo, got 0') };
  const prompt = readPrompt(body.prompt);
  if (prompt === undefined)
    return { problem: invalidRequest('prompt', `prompt must be one text or one list of token ids, got ${show(body.prompt)}`) };
  const logprobs = typeof body.logprobs === 'number' ? body.logprobs : defaults.logprobs;
  // No tokens are generated only where a prompt is scored; scores that nobody asked for are dropped from the completion.
  const promptLogprobs = echo ? (logprobs ?? (maxTokens === 0 ? 0 : undefined)) : undefined;
  const params = { ...defaults, ...samplingParams(body), ...definedOnly({ maxTokens, logprobs, promptLogprobs }) };
  return { request: rowRequest({ prompt, params, echo, returnTokenIds: body.return_token_ids === true, layout: 'completions' }) };
}

/** A list of one prompt is that prompt. */
function readPrompt(value: unknown): string | number[] | undefined {
  if (typeof value === 'string') return value;
  if (!Array.isArray(value) || value.length === 0) return undefined;
  if (isIds(value)) return value;
  const [only, second] = value as readonly unknown[];
  if (second !== undefined) return undefined;
  return typeof only === 'string' || (isIds(only) && only.length > 0) ? only : undefined;
}
