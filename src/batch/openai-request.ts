import type { GenerationParams } from '../requests.ts';
import { isRecord } from '../util/json-value.ts';
import { type Body, invalidRequest, show } from './body-fields.ts';
import { readChat } from './chat-body.ts';
import { readCompletions } from './completions-body.ts';
import type { IdSet } from './id-set.ts';
import type { ParsedRequest } from './rows.ts';

/** The endpoints whose requests are text in, text out. */
const ENDPOINTS: ReadonlyMap<unknown, (body: Body, defaults: GenerationParams) => ParsedRequest> = new Map([
  ['/v1/completions', readCompletions],
  ['/v1/chat/completions', readChat],
]);

/**
 * Reads one line of OpenAI's batch input format.
 * @param defaults for what the body leaves out
 * @param ids the `custom_id`s so far
 */
export function openAiRequest(line: Readonly<Record<string, unknown>>, defaults: GenerationParams, ids: IdSet): ParsedRequest {
  const { custom_id: id, method = 'POST', url, body } = line;
  const fail = (param: string, message: string): ParsedRequest => ({ problem: invalidRequest(param, message) });
  if (typeof id !== 'string' || id === '') return fail('custom_id', `custom_id must be a text that is not empty, got ${show(id)}`);
  if (!ids.add(id)) return fail('custom_id', `second use of custom_id ${show(id)}`);
  if (method !== 'POST') return fail('method', `method must be "POST", got ${show(method)}`);
  const read = ENDPOINTS.get(url);
  if (read === undefined) {
    const known = [...ENDPOINTS.keys()].map(show).join(' or ');
    return fail('url', `url must be ${known}, got ${show(url)}`);
  }
  if (!isRecord(body)) return fail('body', `body must be an object, got ${show(body)}`);
  return read(body, defaults);
}
