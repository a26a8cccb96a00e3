import { MAX_STOPS } from '../llm/params.ts';
import type { GenerationParams } from '../requests.ts';
import { MAX_TEMPERATURE, MAX_TOKEN_ID } from '../sampling/check-params.ts';
import { MAX_TOP_LOGPROBS } from '../sampling/logprobs.ts';
import type { IdSet } from './id-set.ts';
import { isRecord } from '../util/json-value.ts';
import { type RowProblem, type RowRequest, rowRequest } from './rows.ts';

/** The only endpoint whose requests are text in, text out. */
const COMPLETIONS_URL = '/v1/completions';

/** Fields that change nothing: names for the sender's own use, and the model, which the job's model replaces. */
const IGNORED = new Set(['model', 'user', 'metadata', 'stream_options']);

/** Known fields that are not built, with the values at which they ask for nothing. Null always asks for nothing. */
const NEUTRAL: Readonly<Record<string, readonly unknown[]>> = {
  n: [1],
  best_of: [1],
  stream: [false],
  suffix: [''],
  frequency_penalty: [0],
  presence_penalty: [0],
  repetition_penalty: [1],
  min_p: [0],
  min_tokens: [0],
  use_beam_search: [false],
};

type Rule = readonly [check: (value: unknown) => boolean, expected: string];

const number = (from: number, to: number): Rule => [
  (value) => typeof value === 'number' && value >= from && value <= to,
  `a number from ${from} to ${to}`,
];
const integer = (from: number, to: number): Rule => [
  (value) => Number.isInteger(value) && Number(value) >= from && Number(value) <= to,
  `an integer from ${from} to ${to}`,
];
const boolean: Rule = [(value) => typeof value === 'boolean', 'true or false'];
const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');

const FIELDS: Readonly<Record<string, Rule>> = {
  max_tokens: integer(0, 2 ** 31 - 1),
  temperature: number(0, MAX_TEMPERATURE),
  top_p: [(value) => typeof value === 'number' && value > 0 && value <= 1, 'a number above 0, at most 1'],
  // -1 is how some servers write "all".
  top_k: integer(-1, 2 ** 31 - 1),
  seed: integer(0, 2 ** 32 - 1),
  logprobs: integer(0, MAX_TOP_LOGPROBS),
  echo: boolean,
  ignore_eos: boolean,
  return_token_ids: boolean,
  stop: [
    (value) => (typeof value === 'string' && value !== '') || (isTexts(value) && value.length <= MAX_STOPS && !value.includes('')),
    `a text or a list of at most ${MAX_STOPS} texts, none empty`,
  ],
  stop_token_ids: [(value) => isIds(value) && value.every((id) => id <= MAX_TOKEN_ID), `a list of token ids, at most ${MAX_TOKEN_ID}`],
};

type Parsed = { readonly request: RowRequest } | { readonly problem: RowProblem };

/**
 * Reads one line of OpenAI's batch input format for /v1/completions.
 * @param defaults for what the body leaves out
 * @param ids the `custom_id`s so far
 */
export function openAiRequest(line: Readonly<Record<string, unknown>>, defaults: GenerationParams, ids: IdSet): Parsed {
  const { custom_id: id, method = 'POST', url, body } = line;
  const fail = (param: string, message: string): Parsed => ({ problem: { message, param, code: 'invalid_request' } });
  if (typeof id !== 'string' || id === '') return fail('custom_id', `custom_id must be a text that is not empty, got ${show(id)}`);
  if (!ids.add(id)) return fail('custom_id', `second use of custom_id ${show(id)}`);
  if (method !== 'POST') return fail('method', `method must be "POST", got ${show(method)}`);
  if (url !== COMPLETIONS_URL) return fail('url', `url must be "${COMPLETIONS_URL}", got ${show(url)}`);
  if (!isRecord(body)) return fail('body', `body must be an object, got ${show(body)}`);
  const wrong = Object.entries(body).flatMap(([name, value]) => fieldProblem(name, value));
  if (wrong[0] !== undefined) return { problem: wrong[0] };
  if (maxTokensOf(body, defaults) === 0 && body.echo !== true)
    return fail('max_tokens', 'max_tokens must be at least 1 without echo, got 0');
  const prompt = readPrompt(body.prompt);
  if (prompt === undefined) return fail('prompt', `prompt must be one text or one list of token ids, got ${show(body.prompt)}`);
  return { request: readRequest(prompt, body, defaults) };
}

function fieldProblem(name: string, value: unknown): RowProblem[] {
  if (name === 'prompt' || value === null || IGNORED.has(name)) return [];
  const rule = Object.hasOwn(FIELDS, name) ? FIELDS[name] : undefined;
  if (rule !== undefined) {
    const [check, expected] = rule;
    return check(value) ? [] : [{ message: `${name} must be ${expected}, got ${show(value)}`, param: name, code: 'invalid_value' }];
  }
  if (isNeutral(name, value)) return [];
  return [{ message: `${name} is not supported, got ${show(value)}`, param: name, code: 'unsupported_parameter' }];
}

function isNeutral(name: string, value: unknown): boolean {
  if (name === 'response_format') return isRecord(value) && value.type === 'text';
  if (name === 'logit_bias') return isRecord(value) && Object.keys(value).length === 0;
  return Object.hasOwn(NEUTRAL, name) && NEUTRAL[name]?.includes(value) === true;
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

/** The fields have passed their rules; null means that the field is left out. */
function readRequest(prompt: string | number[], body: Readonly<Record<string, unknown>>, defaults: GenerationParams): RowRequest {
  const echo = body.echo === true;
  const logprobs = typeof body.logprobs === 'number' ? body.logprobs : defaults.logprobs;
  const topK = body.top_k === -1 ? 0 : body.top_k;
  const maxTokens = maxTokensOf(body, defaults);
  const fields = {
    maxTokens,
    temperature: body.temperature,
    topP: body.top_p,
    topK,
    seed: body.seed,
    stop: typeof body.stop === 'string' ? [body.stop] : body.stop,
    stopTokenIds: body.stop_token_ids,
    ignoreEos: body.ignore_eos,
    logprobs,
    // No tokens are generated only where a prompt is scored; scores that nobody asked for are dropped from the completion.
    promptLogprobs: echo ? (logprobs ?? (maxTokens === 0 ? 0 : undefined)) : undefined,
  };
  const given = Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
  return rowRequest({ prompt, params: { ...defaults, ...given }, echo, returnTokenIds: body.return_token_ids === true });
}

function maxTokensOf(body: Readonly<Record<string, unknown>>, defaults: GenerationParams): number | undefined {
  return typeof body.max_tokens === 'number' ? body.max_tokens : defaults.maxTokens;
}

function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
