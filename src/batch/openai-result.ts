import { atLine, type Completion, type RenderContext, resultId, type RowOutcome, type RowProblem, type RowRequest } from './rows.ts';

/** What a result line repeats of its request. */
export interface OpenAiRow {
  readonly index: number;
  readonly line: number;
  /** Null when the line has none. */
  readonly customId: string | null;
  readonly request?: RowRequest;
  readonly problem?: RowProblem;
}

/** One line of OpenAI's batch output format. Requests that were refused have status 400; a line that held no request has only `error`. */
export function openAiResult(row: OpenAiRow, outcome: RowOutcome, context: RenderContext): string {
  const id = resultId(row.index, row.request?.hash ?? 0n);
  return `${JSON.stringify({ id: `batch_req_${id}`, custom_id: row.customId, ...answer(row, id, outcome, context) })}\n`;
}

function answer(row: OpenAiRow, id: string, outcome: RowOutcome, context: RenderContext): Record<string, unknown> {
  if ('completion' in outcome) return { response: response(200, id, resultBody(row, id, outcome.completion, context)), error: null };
  const { param = null, code } = outcome.problem;
  const message = atLine(row.line, outcome.problem);
  if (code === 'invalid_json_line') return { response: null, error: { code, message } };
  return { response: response(400, id, { error: { message, type: 'invalid_request_error', param, code } }), error: null };
}

function response(status: number, id: string, body: unknown): Record<string, unknown> {
  return { status_code: status, request_id: `req_${id}`, body };
}

function resultBody(
  { request }: OpenAiRow,
  id: string,
  completion: Completion,
  { created, model }: RenderContext,
): Record<string, unknown> {
  const { text, finishReason, promptTokens, completionTokens, logprobs = null, tokenIds } = completion;
  const usage = { prompt_tokens: promptTokens, completion_tokens: completionTokens, total_tokens: promptTokens + completionTokens };
  const end = { finish_reason: finishReason, logprobs, ...(tokenIds && { token_ids: tokenIds }) };
  if (request?.layout === 'chat') {
    const message = { role: 'assistant', content: text, refusal: null };
    return { id: `chatcmpl-${id}`, object: 'chat.completion', created, model, choices: [{ index: 0, message, ...end }], usage };
  }
  return { id: `cmpl-${id}`, object: 'text_completion', created, model, choices: [{ index: 0, text, ...end }], usage };
}
