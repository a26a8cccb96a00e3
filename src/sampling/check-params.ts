import { inspect } from 'node:util';
import { RequestError } from '../util/errors.ts';
import { MAX_TOP_LOGPROBS } from './logprobs.ts';
import type { SamplingParams } from './params.ts';

/** Far above any use (2 is common as a limit); beyond it all tokens are as good as equally probable. */
export const MAX_TEMPERATURE = 100;
/** Far above any use (1.3 is strong); beyond it repeated tokens are as good as ruled out. */
export const MAX_REPETITION_PENALTY = 100;
/** As OpenAI has it, on either side of 0. */
export const MAX_PENALTY = 2;
/** Ids are signed 32-bit integers in models and tokenizers. */
export const MAX_TOKEN_ID: number = 2 ** 31 - 1;

/**
 * Checks parameters that may come from outside, where types are only claimed.
 * @throws {RequestError} naming the field, what is allowed and what was given; facts: `field`, `allowed`, `value` as text
 */
export function checkSamplingParams(params: SamplingParams): void {
  const { temperature, topP, minP, logprobs, promptLogprobs } = params;
  if (!(isNumber(temperature) && temperature >= 0 && temperature <= MAX_TEMPERATURE)) {
    throw notAllowed('temperature', `a number in [0, ${MAX_TEMPERATURE}] (0 is greedy)`, temperature);
  }
  checkInteger('topK', params.topK, 0, Number.MAX_SAFE_INTEGER, ' (0 keeps all tokens)');
  if (!(isNumber(topP) && topP > 0 && topP <= 1)) throw notAllowed('topP', 'a number in (0, 1] (1 keeps all tokens)', topP);
  if (!(isNumber(minP) && minP >= 0 && minP <= 1)) throw notAllowed('minP', 'a number in [0, 1] (0 keeps all tokens)', minP);
  checkPenalties(params);
  checkInteger('seed', params.seed, 0, 2 ** 32 - 1);
  if (logprobs !== undefined) checkInteger('logprobs', logprobs, 0, MAX_TOP_LOGPROBS);
  if (promptLogprobs !== undefined) checkInteger('promptLogprobs', promptLogprobs, 0, MAX_TOP_LOGPROBS);
  if (promptLogprobs === undefined) {
    checkInteger('maxTokens', params.maxTokens, 1, Number.MAX_SAFE_INTEGER, ' (0 only with promptLogprobs)');
  } else {
    checkInteger('maxTokens', params.maxTokens, 0, Number.MAX_SAFE_INTEGER);
  }
  if (typeof params.ignoreEos !== 'boolean') throw notAllowed('ignoreEos', 'true or false', params.ignoreEos);
  if (!Array.isArray(params.stopTokenIds)) throw notAllowed('stopTokenIds', 'a list of token ids', params.stopTokenIds);
  for (const [i, id] of params.stopTokenIds.entries()) checkInteger(`stopTokenIds[${i}]`, id, 0, MAX_TOKEN_ID);
}

function checkPenalties(params: SamplingParams): void {
  const { repetitionPenalty: factor } = params;
  if (!(isNumber(factor) && factor > 0 && factor <= MAX_REPETITION_PENALTY))
    throw notAllowed('repetitionPenalty', `a number in (0, ${MAX_REPETITION_PENALTY}] (1 is none)`, factor);
  for (const field of ['presencePenalty', 'frequencyPenalty'] as const) {
    const value = params[field];
    if (!(isNumber(value) && Math.abs(value) <= MAX_PENALTY))
      throw notAllowed(field, `a number in [-${MAX_PENALTY}, ${MAX_PENALTY}] (0 is none)`, value);
  }
}

/** False for NaN, infinities and whatever is no number. */
function isNumber(value: unknown): value is number {
  return Number.isFinite(value);
}

function checkInteger(field: string, value: unknown, least: number, most: number, hint = ''): void {
  if (Number.isInteger(value) && (value as number) >= least && (value as number) <= most) return;
  const range = most === Number.MAX_SAFE_INTEGER ? `of at least ${least}` : `in [${least}, ${most}]`;
  throw notAllowed(field, `an integer ${range}${hint}`, value);
}

function notAllowed(field: string, allowed: string, value: unknown): RequestError {
  const shown = inspect(value, { depth: 0, maxStringLength: 40, maxArrayLength: 4, breakLength: Infinity });
  return new RequestError(`${field} must be ${allowed}, got ${shown}`, { field, allowed, value: shown });
}
