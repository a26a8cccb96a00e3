import { isUtf8 } from 'node:buffer';
import { UsageError } from '../util/errors.ts';
import { byteLines, type ByteLine } from './byte-lines.ts';
import type { FileChunks } from './file-chunks.ts';
import { IdSet } from './id-set.ts';
import { isRecord } from '../util/json-value.ts';
import { openAiRequest } from './openai-request.ts';
import { openAiResult } from './openai-result.ts';
import { ownPrompt } from './own-prompt.ts';
import { type RowPrompts, rowPrompts } from './row-prompt.ts';
import {
  atLine,
  freeName,
  type InputRow,
  type InputTable,
  type ParsedRequest,
  type RowOutcome,
  type RowProblem,
  rowRequest,
  type TableSettings,
} from './rows.ts';

/** Room for a prompt of millions of tokens; more is no row. */
export const MAX_LINE_BYTES: number = 16 * 2 ** 20;

/** What the lines so far decide about the next one. */
interface PassState {
  readonly ids: IdSet;
  readonly settings: TableSettings;
  readonly prompts: RowPrompts;
  /** Template columns that no plain object has had. */
  readonly unseen: Set<string>;
  /** Keys of the first plain object. */
  firstKeys: readonly string[] | undefined;
  /** A line that cannot be read is answered like the line before it. */
  lastWasOpenAi: boolean;
}

/**
 * Rows of a JSONL file. Each line is a request of OpenAI's batch format, answered in that format, or another object, whose line is repeated
 * with the completion, `finish_reason` and `error` (null without one) added. Blank lines are no rows.
 * When all lines are read, throws a UsageError if a column of the template was in no object.
 */
export function openJsonl(source: FileChunks, settings: TableSettings): InputTable {
  const lines = byteLines(source.chunks, MAX_LINE_BYTES);
  const close = async (): Promise<void> => {
    await lines.return();
    await source.chunks.return();
  };
  return { prologue: '', rows: jsonlRows(lines, settings), [Symbol.asyncDispose]: close };
}

async function* jsonlRows(lines: AsyncIterable<ByteLine>, settings: TableSettings): AsyncGenerator<InputRow, void, void> {
  const prompts = rowPrompts(settings.templates);
  const unseen = new Set(prompts.columns);
  const state: PassState = { ids: new IdSet(), settings, prompts, unseen, firstKeys: undefined, lastWasOpenAi: false };
  let index = 0;
  for await (const line of lines) {
    const row = jsonlRow(line, index, state);
    if (row === undefined) continue;
    index++;
    yield row;
  }
  const [missing] = unseen;
  if (missing === undefined || state.firstKeys === undefined) return;
  const keys = state.firstKeys.map((key) => JSON.stringify(key)).join(', ');
  throw new UsageError(`the prompt's column "${missing}" is in no line of ${settings.name}; the first object has ${keys || 'no keys'}`);
}

function jsonlRow({ line, bytes }: ByteLine, index: number, state: PassState): InputRow | undefined {
  if (bytes === undefined) return brokenRow(line, index, `longer than ${MAX_LINE_BYTES} bytes`, state);
  if (!isUtf8(bytes)) return brokenRow(line, index, 'not UTF-8', state);
  const text = bytes.toString('utf8').trim();
  if (text === '') return undefined;
  const value = parseJson(text);
  if (!isRecord(value)) return brokenRow(line, index, `no JSON object: ${excerpt(text)}`, state);
  state.lastWasOpenAi = 'custom_id' in value || 'body' in value;
  if (!state.lastWasOpenAi) return plainRow(text, value, line, index, state);
  const parsed = openAiRequest(value, state.settings.params, state.ids);
  const customId = typeof value.custom_id === 'string' ? value.custom_id : null;
  return { index, line, ...parsed, render: (outcome, context) => openAiResult({ index, line, customId, ...parsed }, outcome, context) };
}

function plainRow(text: string, value: Record<string, unknown>, line: number, index: number, state: PassState): InputRow {
  state.firstKeys ??= Object.keys(value);
  for (const column of state.unseen) if (Object.hasOwn(value, column)) state.unseen.delete(column);
  const { column } = state.settings;
  // Spliced, not serialised again: numbers and spacing stay as they were written.
  const head = text.slice(0, -1).trimEnd();
  const render = (outcome: RowOutcome): string => {
    const added = JSON.stringify(plainResult(outcome, line, column, value)).slice(1);
    return `${head}${head === '{' ? '' : ','}${added}\n`;
  };
  return { index, line, render, ...plainRequest(value, state) };
}

function plainRequest(value: Record<string, unknown>, { settings, prompts }: PassState): ParsedRequest {
  const { column, params, returnTokenIds } = settings;
  const fail = (message: string, param: string): ParsedRequest => ({ problem: { message, param, code: 'invalid_row' } });
  if (Object.hasOwn(value, column)) return fail(`has a key "${column}" already; choose another with --column`, column);
  const missing = prompts.columns.find((name) => !Object.hasOwn(value, name));
  if (missing !== undefined) return fail(`no key "${missing}", which the prompt names; keys: ${Object.keys(value).join(', ')}`, missing);
  const valueOf = (name: string): string => plainText(value[name]);
  const read = prompts.ask === undefined ? ownPrompt(value, prompts.system?.(valueOf)) : { prompt: prompts.ask(valueOf) };
  if ('problem' in read) return read;
  return { request: rowRequest({ prompt: read.prompt, params, echo: false, returnTokenIds, layout: 'completions' }) };
}

function plainResult(outcome: RowOutcome, line: number, column: string, value: Record<string, unknown>): Record<string, unknown> {
  const taken = (name: string): boolean => Object.hasOwn(value, name) || name === column;
  const completionKey = freeName(column, column, (name) => Object.hasOwn(value, name));
  const finishKey = freeName('finish_reason', column, taken);
  const errorKey = freeName('error', column, taken);
  if ('problem' in outcome) return { [completionKey]: null, [finishKey]: null, [errorKey]: atLine(line, outcome.problem) };
  const { text, finishReason, tokenIds, logprobs } = outcome.completion;
  return {
    [completionKey]: text,
    [finishKey]: finishReason,
    ...(tokenIds && { [freeName('token_ids', column, taken)]: tokenIds }),
    ...(logprobs && { [freeName('logprobs', column, taken)]: logprobs }),
    [errorKey]: null,
  };
}

/** A line that is no object, answered in the layout of the line before. */
function brokenRow(line: number, index: number, message: string, state: PassState): InputRow {
  const problem: RowProblem = { message, code: 'invalid_json_line' };
  if (state.lastWasOpenAi) {
    return { index, line, problem, render: (outcome, context) => openAiResult({ index, line, customId: null, problem }, outcome, context) };
  }
  const { column } = state.settings;
  return { index, line, problem, render: (outcome) => `${JSON.stringify(plainResult(outcome, line, column, {}))}\n` };
}

function parseJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return undefined;
  }
}

/** Values other than text stand in a prompt as JSON; null as nothing. */
const plainText = (value: unknown): string => (typeof value === 'string' ? value : value === null ? '' : JSON.stringify(value));

const excerpt = (text: string): string => (text.length > 60 ? `${text.slice(0, 60)}…` : text);
