import type { FinishReason, GenerationParams, PromptInput } from '../requests.ts';
import { hash64, hex64 } from '../util/hash.ts';
import type { PromptTemplates } from './row-prompt.ts';

/** OpenAI's endpoint whose answers an answer looks like; rows of tables have log-probabilities as completions do. */
export type AnswerLayout = 'completions' | 'chat';

/** What a row asks for. */
export interface RowRequest {
  readonly prompt: PromptInput;
  readonly params: GenerationParams;
  /** The completion's text begins with the prompt. */
  readonly echo: boolean;
  readonly returnTokenIds: boolean;
  /** Of the answer, where it has log-probabilities or is a body. */
  readonly layout: AnswerLayout;
  /** Of all of the above: an equal hash gives an equal completion. */
  readonly hash: bigint;
}

/** A request, or why a row is none. */
export type ParsedRequest = { readonly request: RowRequest } | { readonly problem: RowProblem };

/** Why a row has no completion. */
export interface RowProblem {
  readonly message: string;
  /** Field at fault. */
  readonly param?: string;
  readonly code: string;
}

/** Log-probabilities in the layout of OpenAI's completions. Entries are null for a first token, which nothing precedes. */
export interface LegacyLogprobs {
  readonly tokens: readonly string[];
  readonly token_logprobs: readonly (number | null)[];
  readonly top_logprobs: readonly (Readonly<Record<string, number>> | null)[];
  /** Characters (code points) before the token in the text. */
  readonly text_offset: readonly number[];
}

/** A token in the layout of OpenAI's chat completions. */
export interface ChatToken {
  readonly token: string;
  readonly logprob: number;
  /** UTF-8; null for a part of a character. */
  readonly bytes: readonly number[] | null;
}

/** Log-probabilities in the layout of OpenAI's chat completions. */
export interface ChatLogprobs {
  readonly content: readonly (ChatToken & { readonly top_logprobs: readonly ChatToken[] })[];
  readonly refusal: null;
}

/** What the journal keeps of a result. */
export interface Completion {
  readonly text: string;
  readonly finishReason: FinishReason;
  readonly promptTokens: number;
  readonly completionTokens: number;
  readonly tokenIds?: readonly number[];
  /** In the layout that the request has. */
  readonly logprobs?: LegacyLogprobs | ChatLogprobs;
}

export type RowOutcome = { readonly completion: Completion } | { readonly problem: RowProblem };

/** Facts of the job that result lines repeat. */
export interface RenderContext {
  /** Seconds since 1970. */
  readonly created: number;
  readonly model: string;
}

interface RowBase {
  /** From 0. */
  readonly index: number;
  /** First line of the row in the file, from 1. */
  readonly line: number;
  /** The line of output, with its end. */
  readonly render: (outcome: RowOutcome, context: RenderContext) => string;
}

/** A row of the input: a request, or the reason why it is none. */
export type InputRow = RowBase & ParsedRequest;

/** One pass over the input. Disposing of it closes the file. */
export interface InputTable extends AsyncDisposable {
  /** What the output has before its first row. */
  readonly prologue: string;
  readonly rows: AsyncIterable<InputRow>;
}

/** Everything that decides how input becomes requests and lines of output. */
export interface TableSettings {
  /** For messages. */
  readonly name: string;
  readonly templates: PromptTemplates;
  readonly column: string;
  readonly params: GenerationParams;
  readonly returnTokenIds: boolean;
}

export function rowRequest(fields: Omit<RowRequest, 'hash'>): RowRequest {
  const { prompt, params, echo, returnTokenIds, layout } = fields;
  const sorted = Object.entries(params).toSorted(([a], [b]) => (a < b ? -1 : 1));
  return { ...fields, hash: hash64(JSON.stringify([prompt, sorted, echo, returnTokenIds, layout])) };
}

/** Identifies the result of a row: the same in every run of the same input. */
export function resultId(index: number, hash: bigint): string {
  return index.toString(16).padStart(8, '0') + hex64(hash);
}

/** `name`, or behind as many `prefix_` as it takes not to be in use. */
export function freeName(name: string, prefix: string, isTaken: (name: string) => boolean): string {
  return isTaken(name) ? freeName(`${prefix}_${name}`, prefix, isTaken) : name;
}

export function atLine(line: number, problem: RowProblem): string {
  return `line ${line}: ${problem.message}`;
}
