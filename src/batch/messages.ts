/** Conversations in rows: a list of messages as OpenAI's chat API writes them. */
import type { ChatMessage } from '../requests.ts';
import { isRecord } from '../util/json-value.ts';
import { invalidRequest, show, unsupported, wrongValue } from './body-fields.ts';
import type { RowProblem } from './rows.ts';

/** `developer` is the newer word for `system`; templates know only the older one. */
const ROLES: ReadonlyMap<unknown, string> = new Map([
  ['system', 'system'],
  ['developer', 'system'],
  ['user', 'user'],
  ['assistant', 'assistant'],
  ['tool', 'tool'],
]);

/** Keys of a message that no chat template needs. */
const IGNORED = new Set(['name', 'tool_call_id', 'annotations']);

/** More turns than a context holds; a template takes some 25 us and 1 kB for each, and nothing else is done meanwhile. */
export const MAX_MESSAGES: number = 16_384;

type ReadMessages = { readonly messages: readonly ChatMessage[] } | { readonly problem: RowProblem };

/** @param value of the key `messages` */
export function readMessages(value: unknown): ReadMessages {
  if (!Array.isArray(value) || value.length === 0) return { problem: wrongValue('messages', 'a list of at least one message', value) };
  if (value.length > MAX_MESSAGES)
    return { problem: invalidRequest('messages', `messages: at most ${MAX_MESSAGES} are read, got ${value.length}`) };
  const messages: ChatMessage[] = [];
  for (const [i, item] of (value as readonly unknown[]).entries()) {
    const read = readMessage(item, `messages[${i}]`);
    if ('problem' in read) return read;
    messages.push(read);
  }
  return { messages };
}

function readMessage(item: unknown, place: string): ChatMessage | { readonly problem: RowProblem } {
  if (!isRecord(item)) return { problem: wrongValue(place, 'an object with role and content', item) };
  const role = ROLES.get(item.role);
  if (role === undefined) return { problem: wrongValue(`${place}.role`, `one of ${[...ROLES.keys()].join(', ')}`, item.role) };
  for (const [key, value] of Object.entries(item)) {
    if (key === 'role' || key === 'content' || value === null || IGNORED.has(key)) continue;
    const isNone = Array.isArray(value) && value.length === 0;
    if (!isNone) return { problem: unsupported(`${place}.${key}`, value) };
  }
  const content = readContent(item.content, `${place}.content`);
  return typeof content === 'string' ? { role, content } : { problem: content };
}

/** Text, or the texts of a list of parts, each on a line of its own. */
function readContent(content: unknown, place: string): string | RowProblem {
  if (typeof content === 'string') return content;
  if (!Array.isArray(content) || content.length === 0) return wrongValue(place, 'text or a list of text parts', content);
  const texts: string[] = [];
  for (const [i, part] of (content as readonly unknown[]).entries()) {
    if (!isRecord(part)) return wrongValue(`${place}[${i}]`, 'an object of type "text"', part);
    if (part.type !== 'text') {
      const message = `${place}[${i}]: parts of type ${show(part.type)} are not supported, only "text"`;
      return { message, param: `${place}[${i}].type`, code: 'unsupported_parameter' };
    }
    if (typeof part.text !== 'string') return wrongValue(`${place}[${i}].text`, 'text', part.text);
    texts.push(part.text);
  }
  return texts.join('\n');
}
