/** How large the rows of a job are, from their text alone: no tokenizer is open while a table is scanned. */
import type { ExpectedRows, PromptInput } from '../requests.ts';
import type { RowRequest } from './rows.ts';

/** English has 4 letters a token, few texts of the Latin alphabet less than 2. Digits, signs and bytes of other scripts may be a token each. */
const LETTERS_PER_TOKEN = 2;
/** Of a chat template, for each message and the beginning. */
const MESSAGE_TOKENS = 32;

/** Gathers what one pass sees. */
export class RowSizes {
  #count = 0;
  #promptTokens = 0;
  #maxTokens = 0;
  #leaveLimit = false;
  #logprobs: number | undefined;
  #promptLogprobs: number | undefined;

  add({ prompt, params }: Pick<RowRequest, 'prompt' | 'params'>): void {
    this.#count++;
    this.#promptTokens = Math.max(this.#promptTokens, promptTokens(prompt));
    if (params.maxTokens === undefined) this.#leaveLimit = true;
    else this.#maxTokens = Math.max(this.#maxTokens, params.maxTokens);
    this.#logprobs = larger(this.#logprobs, params.logprobs);
    this.#promptLogprobs = larger(this.#promptLogprobs, params.promptLogprobs);
  }

  get expected(): ExpectedRows {
    return {
      count: this.#count,
      promptTokens: this.#promptTokens,
      maxTokens: this.#maxTokens,
      leaveLimit: this.#leaveLimit,
      logprobs: this.#logprobs,
      promptLogprobs: this.#promptLogprobs,
    };
  }
}

/** Of two that may be missing. */
const larger = (a: number | undefined, b: number | undefined): number | undefined =>
  a === undefined || b === undefined ? (a ?? b) : Math.max(a, b);

function promptTokens(prompt: PromptInput): number {
  if (typeof prompt === 'string') return textTokens(prompt);
  if ('messages' in prompt) return prompt.messages.reduce((sum, { content }) => sum + MESSAGE_TOKENS + textTokens(content), MESSAGE_TOKENS);
  return prompt.length;
}

function textTokens(text: string): number {
  let letters = 0;
  for (let i = 0; i < text.length; i++) if (isLetter(text.charCodeAt(i))) letters++;
  return Buffer.byteLength(text) - letters + Math.ceil(letters / LETTERS_PER_TOKEN);
}

/** Of ASCII, or the space before a word. */
const isLetter = (code: number): boolean => ((code | 32) - 97) >>> 0 < 26 || code === 32;
