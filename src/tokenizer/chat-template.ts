/** Turns a conversation into the text that a model was trained to continue, by the Jinja template that comes with it. */
import { join } from 'node:path';
import { Template } from '@huggingface/jinja';
import { FormatError, RequestError } from '../util/errors.ts';
import { isJsonObject, readTextIfPresent } from './read-file.ts';
import { readTokenizerConfig } from './special-tokens.ts';

export interface TemplateMessage {
  readonly role: string;
  readonly content: string;
}

export interface ChatTemplate {
  /**
   * Text up to where the answer begins, special tokens included: encode it without adding any.
   * @throws {RequestError} with the template's own words when it refuses the conversation
   */
  render(messages: readonly TemplateMessage[], options?: { readonly addGenerationPrompt?: boolean }): string;
}

/** Texts of special tokens by the names that templates use, such as `bos_token`. */
export type TemplateTokens = Readonly<Record<string, string>>;

/** The longest in use, those that describe tools, have some 20 kB. */
const MAX_TEMPLATE_CHARACTERS = 1 << 20;
/** Times the length of the conversation and the template together: more than any template adds. */
const MAX_GROWTH = 16;

/** @throws {FormatError} when the template cannot be parsed; `file` is for messages */
export function createChatTemplate(source: string, tokens: TemplateTokens, file: string): ChatTemplate {
  if (source.length > MAX_TEMPLATE_CHARACTERS)
    throw new FormatError(file, `chat template of ${source.length} characters, at most ${MAX_TEMPLATE_CHARACTERS} are read`);
  const template = parse(source, file);
  return {
    render(messages, { addGenerationPrompt = true } = {}) {
      const text = render(template, { ...tokens, messages, add_generation_prompt: addGenerationPrompt });
      const most = MAX_GROWTH * (source.length + messages.reduce((sum, { role, content }) => sum + role.length + content.length, 0));
      if (text.length > most)
        throw new RequestError(`messages: the chat template makes ${text.length} characters of them, at most ${most} are taken`);
      return text;
    },
  };
}

/**
 * The template of a model folder: `chat_template.jinja`, else `chat_template` of `tokenizer_config.json`. Undefined when there is none.
 * @throws {FormatError} naming the file and what is wrong in it
 */
export async function loadChatTemplate(folder: string): Promise<ChatTemplate | undefined> {
  const found = await readChatTemplate(folder);
  return found && createChatTemplate(found.source, found.tokens, found.file);
}

/** What `loadChatTemplate` makes a template of. @throws {FormatError} */
export async function readChatTemplate(folder: string): Promise<{ source: string; tokens: TemplateTokens; file: string } | undefined> {
  const { file, settings, roles } = await readTokenizerConfig(folder);
  const tokens = Object.fromEntries([...roles].map(([role, { content }]) => [role, content]));
  const ownFile = join(folder, 'chat_template.jinja');
  const own = await readTextIfPresent(ownFile, MAX_TEMPLATE_CHARACTERS * 4);
  if (own !== undefined) return { source: own, tokens, file: ownFile };
  const source = chosenTemplate(settings['chat_template'], file);
  return source === undefined ? undefined : { source, tokens, file };
}

/** One template, or several by name, of which `default` counts. */
function chosenTemplate(value: unknown, file: string): string | undefined {
  if (value === undefined || value === null || typeof value === 'string') return value ?? undefined;
  if (!Array.isArray(value)) throw new FormatError(file, '"chat_template" is neither text nor a list of templates');
  const named = value.find((item) => isJsonObject(item) && item['name'] === 'default') as { template?: unknown } | undefined;
  if (named === undefined) return undefined;
  if (typeof named.template !== 'string') throw new FormatError(file, '"chat_template": the default template is no text');
  return named.template;
}

function parse(source: string, file: string): Template {
  try {
    return new Template(source);
  } catch (cause) {
    throw new FormatError(file, `chat template cannot be read: ${(cause as Error).message}`, {}, { cause });
  }
}

/** A template may use whatever it likes and fail on any conversation: its errors are errors of the row. */
function render(template: Template, values: Readonly<Record<string, unknown>>): string {
  try {
    return template.render(values);
  } catch (cause) {
    throw new RequestError(`messages: the chat template refuses them: ${(cause as Error).message}`, {}, { cause });
  }
}
