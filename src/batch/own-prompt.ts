import type { PromptInput } from '../requests.ts';
import { readMessages } from './messages.ts';
import { turns, withSystem } from './row-prompt.ts';
import type { RowProblem } from './rows.ts';

/**
 * The prompt that a plain object brings itself: `prompt`, text or token ids, or `messages`. Null is as good as missing.
 * @param system what the system says first, unless the row's messages have that; it makes a conversation of text
 */
export function ownPrompt(
  { prompt = null, messages = null }: Readonly<Record<string, unknown>>,
  system: string | undefined,
): { readonly prompt: PromptInput } | { readonly problem: RowProblem } {
  const fail = (message: string, param: string) => ({ problem: { message, param, code: 'invalid_row' } });
  if (prompt !== null && messages !== null) return fail('has both "prompt" and "messages"; leave out one of them', 'messages');
  if (messages !== null) {
    const read = readMessages(messages);
    return 'problem' in read ? read : { prompt: { messages: withSystem(read.messages, system) } };
  }
  if (!isPrompt(prompt))
    return fail('no --prompt or --user was given, and there are neither "messages" nor a "prompt" of text or token ids', 'prompt');
  if (system === undefined) return { prompt };
  if (typeof prompt !== 'string') return fail('--system makes a conversation, but the key "prompt" holds token ids', 'prompt');
  return { prompt: { messages: turns(prompt, system) } };
}

const isPrompt = (value: unknown): value is string | number[] =>
  typeof value === 'string' || (Array.isArray(value) && value.length > 0 && value.every((id) => Number.isInteger(id) && id >= 0));
