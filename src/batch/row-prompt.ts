import type { ChatMessage, PromptInput } from '../requests.ts';
import { UsageError } from '../util/errors.ts';
import { parseTemplate } from './template.ts';

/** Templates of a job, as the user wrote them. `prompt` is text; `system` and `user` are a conversation. */
export interface PromptTemplates {
  readonly prompt?: string;
  readonly system?: string;
  readonly user?: string;
}

type ValueOf = (column: string) => string;

/** What the templates make of a row. */
export interface RowPrompts {
  /** Names of the columns of all templates, each once. */
  readonly columns: readonly string[];
  /** The prompt; undefined where each row must bring its own. */
  readonly ask: ((valueOf: ValueOf) => PromptInput) | undefined;
  /** What the system says to a row that brings its own prompt. */
  readonly system: ((valueOf: ValueOf) => string) | undefined;
}

/** @throws {UsageError} for templates that are empty or exclude each other */
export function checkTemplates({ prompt, system, user }: PromptTemplates): void {
  if (prompt === '') throw new UsageError('the prompt is empty; give one, such as --prompt "Input: {{column}}"');
  if (system === '' || user === '') throw new UsageError(`--${user === '' ? 'user' : 'system'} is empty; give a text, or leave it out`);
  if (prompt !== undefined && (system !== undefined || user !== undefined))
    throw new UsageError('--prompt is text, --system and --user are a conversation; give one or the other');
}

export function rowPrompts(templates: PromptTemplates): RowPrompts {
  const [prompt, system, user] = [templates.prompt, templates.system, templates.user].map((text) =>
    text === undefined ? undefined : parseTemplate(text),
  );
  return {
    columns: [...new Set([prompt, system, user].flatMap((template) => template?.columns ?? []))],
    ask: prompt?.render ?? (user && ((valueOf) => ({ messages: turns(user.render(valueOf), system?.render(valueOf)) }))),
    system: system?.render,
  };
}

/** Rows that all ask for the same are allowed, because an answer may be drawn many times; more often a column was forgotten. */
export function promptNotice(templates: PromptTemplates, allAlike: boolean): string | undefined {
  const { ask, columns } = rowPrompts(templates);
  if (ask === undefined || !allAlike || columns.length > 0) return undefined;
  return 'the prompt names no {{column}}, so that every row asked for the same';
}

/** A conversation that begins. */
export function turns(user: string, system: string | undefined): ChatMessage[] {
  return withSystem([{ role: 'user', content: user }], system);
}

/** A system message of the conversation itself wins. */
export function withSystem(messages: readonly ChatMessage[], system: string | undefined): ChatMessage[] {
  const has = system === undefined || messages.some(({ role }) => role === 'system');
  return has ? [...messages] : [{ role: 'system', content: system }, ...messages];
}
