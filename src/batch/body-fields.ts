/** Fields that the bodies of OpenAI's endpoints share: rules for their values, and what they become. */
import { MAX_STOPS } from '../llm/params.ts';
import type { GenerationParams } from '../requests.ts';
import { MAX_PENALTY, MAX_REPETITION_PENALTY, MAX_TEMPERATURE, MAX_TOKEN_ID } from '../sampling/check-params.ts';
import { isRecord } from '../util/json-value.ts';
import type { RowProblem } from './rows.ts';

export type Body = Readonly<Record<string, unknown>>;

/** A check of a field, and what it takes, for messages. */
export type Rule = readonly [check: (value: unknown) => boolean, expected: string];

/** The fields of an endpoint's bodies. Null always asks for nothing. */
export interface BodyRules {
  /** Read by the endpoint itself, or without any effect. */
  readonly free: ReadonlySet<string>;
  /** Served fields. */
  readonly served: Readonly<Record<string, Rule>>;
  /** Known fields that are not built, with the values at which they ask for nothing. */
  readonly neutral: Readonly<Record<string, readonly unknown[]>>;
}

export const integer = (from: number, to: number): Rule => [
  (value) => Number.isInteger(value) && Number(value) >= from && Number(value) <= to,
  `an integer from ${from} to ${to}`,
];
const number = (from: number, to: number): Rule => [
  (value) => typeof value === 'number' && value >= from && value <= to,
  `a number from ${from} to ${to}`,
];
export const boolean: Rule = [(value) => typeof value === 'boolean', 'true or false'];
export const isIds = (value: unknown): value is number[] => Array.isArray(value) && value.every((id) => Number.isInteger(id) && id >= 0);
const isTexts = (value: unknown): value is string[] => Array.isArray(value) && value.every((item) => typeof item === 'string');

/** Names for the sender's own use, and the model, which the job's model replaces. */
export const IGNORED: readonly string[] = ['model', 'user', 'metadata', 'stream_options'];

export const MAX_BODY_TOKENS: number = 2 ** 31 - 1;

export const SAMPLING: Readonly<Record<string, Rule>> = {
  max_tokens: integer(0, MAX_BODY_TOKENS),
  temperature: number(0, MAX_TEMPERATURE),
  top_p: [(value) => typeof value === 'number' && value > 0 && value <= 1, 'a number above 0, at most 1'],
  min_p: number(0, 1),
  repetition_penalty: [
    (value) => typeof value === 'number' && value > 0 && value <= MAX_REPETITION_PENALTY,
    `a number above 0, at most ${MAX_REPETITION_PENALTY}`,
  ],
  presence_penalty: number(-MAX_PENALTY, MAX_PENALTY),
  frequency_penalty: number(-MAX_PENALTY, MAX_PENALTY),
  // -1 is how some servers write "all".
  top_k: integer(-1, 2 ** 31 - 1),
  seed: integer(0, 2 ** 32 - 1),
  ignore_eos: boolean,
  return_token_ids: boolean,
  stop: [
    (value) => (typeof value === 'string' && value !== '') || (isTexts(value) && value.length <= MAX_STOPS && !value.includes('')),
    `a text or a list of at most ${MAX_STOPS} texts, none empty`,
  ],
  stop_token_ids: [(value) => isIds(value) && value.every((id) => id <= MAX_TOKEN_ID), `a list of token ids, at most ${MAX_TOKEN_ID}`],
};

export const NEUTRAL: BodyRules['neutral'] = {
  n: [1],
  stream: [false],
  min_tokens: [0],
  use_beam_search: [false],
};

/** The first field that breaks a rule. */
export function fieldProblem(body: Body, rules: BodyRules): RowProblem | undefined {
  for (const [name, value] of Object.entries(body)) {
    if (value === null || rules.free.has(name) || isNeutral(name, value, rules.neutral)) continue;
    const rule = Object.hasOwn(rules.served, name) ? rules.served[name] : undefined;
    if (rule === undefined) return unsupported(name, value);
    const [check, expected] = rule;
    if (!check(value)) return wrongValue(name, expected, value);
  }
  return undefined;
}

function isNeutral(name: string, value: unknown, neutral: BodyRules['neutral']): boolean {
  if (name === 'response_format') return isRecord(value) && value.type === 'text';
  if (name === 'logit_bias' || name === 'chat_template_kwargs') return isRecord(value) && Object.keys(value).length === 0;
  if (!Object.hasOwn(neutral, name)) return false;
  // Lists, such as `tools`, by their content.
  return neutral[name]?.some((one) => one === value || (Array.isArray(value) && JSON.stringify(one) === JSON.stringify(value))) === true;
}

/** Fields that have passed their rules, as parameters; null means that a field is left out. */
export function samplingParams(body: Body): GenerationParams {
  return definedOnly({
    temperature: body.temperature,
    topP: body.top_p,
    minP: body.min_p,
    repetitionPenalty: body.repetition_penalty,
    presencePenalty: body.presence_penalty,
    frequencyPenalty: body.frequency_penalty,
    topK: body.top_k === -1 ? 0 : body.top_k,
    seed: body.seed,
    stop: typeof body.stop === 'string' ? [body.stop] : body.stop,
    stopTokenIds: body.stop_token_ids,
    ignoreEos: body.ignore_eos,
  });
}

/** What is neither undefined nor null. */
export function definedOnly(fields: Readonly<Record<string, unknown>>): GenerationParams {
  return Object.fromEntries(Object.entries(fields).filter(([, value]) => value !== undefined && value !== null));
}

export function invalidRequest(param: string, message: string): RowProblem {
  return { message, param, code: 'invalid_request' };
}

export function wrongValue(param: string, expected: string, value: unknown): RowProblem {
  return { message: `${param} must be ${expected}, got ${show(value)}`, param, code: 'invalid_value' };
}

export function unsupported(param: string, value: unknown): RowProblem {
  return { message: `${param} is not supported, got ${show(value)}`, param, code: 'unsupported_parameter' };
}

export function show(value: unknown): string {
  const text = value === undefined ? 'nothing' : JSON.stringify(value);
  return text.length > 80 ? `${text.slice(0, 80)}…` : text;
}
