/** How large the rows of a job are, from their text alone: no tokenizer is open while a table is scanned. */
import type { ExpectedRows, PromptInput } from '../requests.ts';
import type { RowRequest } from './rows.ts';

/** Few texts have shorter tokens: English has 4 bytes a token, Chinese 3, and numbers 2 or 3. */
const BYTES_PER_TOKEN = 2;
/** Of a chat template, for each message and the beginning. */
const MESSAGE_TOKENS = 32;

/** Gathers what one pass sees. */
export class RowSizes {
  #count = 0;
  #promptTokens = 0;
  #maxTokens: number | undefined = 0;

  add({ prompt, params }: Pick<RowRequest, 'prompt' | 'params'>): void {
    this.#count++;
    this.#promptTokens = Math.max(this.#promptTokens, promptTokens(prompt));
    const { maxTokens } = params;
    this.#maxTokens = maxTokens === undefined || this.#maxTokens === undefined ? undefined : Math.max(this.#maxTokens, maxTokens);
  }

  get expected(): ExpectedRows {
    const maxTokens = this.#maxTokens;
    return { count: this.#count, promptTokens: this.#promptTokens, ...(maxTokens !== undefined && { maxTokens }) };
  }
}

function promptTokens(prompt: PromptInput): number {
  if (typeof prompt === 'string') return textTokens(prompt);
  if ('messages' in prompt) return prompt.messages.reduce((sum, { content }) => sum + MESSAGE_TOKENS + textTokens(content), MESSAGE_TOKENS);
  return prompt.length;
}

const textTokens = (text: string): number => Math.ceil(Buffer.byteLength(text) / BYTES_PER_TOKEN);
