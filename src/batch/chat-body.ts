/** Bodies of OpenAI's /v1/chat/completions. */
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
  MAX_BODY_TOKENS,
  NEUTRAL,
  SAMPLING,
  samplingParams,
  show,
} from './body-fields.ts';
import { readMessages } from './messages.ts';
import { type ParsedRequest, rowRequest } from './rows.ts';

const RULES: BodyRules = {
  free: new Set([...IGNORED, 'messages', 'service_tier', 'safety_identifier', 'prompt_cache_key']),
  served: {
    ...SAMPLING,
    max_tokens: integer(1, MAX_BODY_TOKENS),
    max_completion_tokens: integer(1, MAX_BODY_TOKENS),
    logprobs: boolean,
    top_logprobs: integer(0, MAX_TOP_LOGPROBS),
  },
  neutral: {
    ...NEUTRAL,
    tools: [[]],
    functions: [[]],
    tool_choice: ['none'],
    function_call: ['none'],
    // Without tools there is nothing to call at once, or one after the other.
    parallel_tool_calls: [true, false],
    modalities: [['text']],
    store: [false],
    echo: [false],
    add_generation_prompt: [true],
    continue_final_message: [false],
    add_special_tokens: [false],
  },
};

/** @param defaults for what the body leaves out */
export function readChat(body: Body, defaults: GenerationParams): ParsedRequest {
  const problem = fieldProblem(body, RULES) ?? pairProblem(body);
  if (problem !== undefined) return { problem };
  const maxTokens = body.max_completion_tokens ?? body.max_tokens ?? defaults.maxTokens;
  if (maxTokens === 0) return { problem: invalidRequest('max_tokens', 'max_tokens must be at least 1, got 0') };
  const read = readMessages(body.messages);
  if ('problem' in read) return read;
  const { logprobs: defaultLogprobs, ...others } = defaults;
  const logprobs = body.logprobs === true ? (body.top_logprobs ?? 0) : body.logprobs === false ? undefined : defaultLogprobs;
  const params = { ...others, ...samplingParams(body), ...definedOnly({ maxTokens, logprobs }) };
  const prompt = { messages: read.messages };
  return { request: rowRequest({ prompt, params, echo: false, returnTokenIds: body.return_token_ids === true, layout: 'chat' }) };
}

/** Fields that contradict each other. */
function pairProblem({ max_tokens: old, max_completion_tokens: most, logprobs, top_logprobs: top }: Body) {
  if (typeof old === 'number' && typeof most === 'number' && old !== most)
    return invalidRequest(
      'max_completion_tokens',
      `max_tokens is ${old}, max_completion_tokens is ${most}: they are the same limit; give one`,
    );
  // 0 is what some clients send with every request.
  if (typeof top === 'number' && top > 0 && logprobs !== true)
    return invalidRequest('top_logprobs', `top_logprobs needs logprobs true, got ${show(logprobs)}`);
  return undefined;
}
