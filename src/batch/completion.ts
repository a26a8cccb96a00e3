import type { GenerationResult } from '../requests.ts';
import type { PositionLogprobs } from '../sampling/params.ts';
import { toChatLogprobs } from './chat-logprobs.ts';
import type { Completion, LegacyLogprobs, RowRequest } from './rows.ts';

/** What of a request must be kept until its result comes. */
export type CompletionWishes = Pick<RowRequest, 'echo' | 'returnTokenIds' | 'layout'> & {
  /** Text of the prompt, if it was text and is to be echoed. */
  readonly promptText?: string;
};

/** A result in the form that is saved and written. Tokens become text here, because writing happens without the model. */
export function toCompletion(result: GenerationResult, wishes: CompletionWishes, tokenText: (id: number) => string): Completion {
  const { text, tokenIds, promptTokenIds, finishReason } = result;
  const prompt = wishes.echo ? (wishes.promptText ?? promptTokenIds.map(tokenText).join('')) : '';
  const logprobs =
    wishes.layout === 'chat' ? result.logprobs && toChatLogprobs(result.logprobs, tokenText) : legacyOf(result, wishes, tokenText);
  return {
    text: prompt + text,
    finishReason,
    promptTokens: promptTokenIds.length,
    completionTokens: tokenIds.length,
    ...(wishes.returnTokenIds && { tokenIds }),
    ...(logprobs && { logprobs }),
  };
}

function legacyOf(result: GenerationResult, { echo }: CompletionWishes, tokenText: (id: number) => string): LegacyLogprobs | undefined {
  if (result.logprobs === undefined) return undefined;
  const positions = [...(echo ? (result.promptLogprobs ?? []) : []), ...result.logprobs];
  // Only the first token of a prompt has no log-probability, and so no id of its own here.
  const tokens = positions.map((position) => tokenText(position?.id ?? result.promptTokenIds[0] ?? 0));
  let offset = 0;
  const offsets = tokens.map((token) => {
    const start = offset;
    offset += codePoints(token);
    return start;
  });
  return {
    tokens,
    token_logprobs: positions.map((position) => position?.logprob ?? null),
    top_logprobs: positions.map((position) => position && topLogprobs(position, tokenText)),
    text_offset: offsets,
  };
}

/** The most probable tokens and the chosen one. Of tokens with the same text (parts of a character) the most probable counts. */
function topLogprobs(position: PositionLogprobs, tokenText: (id: number) => string): Record<string, number> {
  const byText = new Map<string, number>();
  for (const { id, logprob } of [...position.top, position]) {
    const text = tokenText(id);
    if (!byText.has(text)) byText.set(text, logprob);
  }
  return Object.fromEntries(byText);
}

function codePoints(text: string): number {
  let count = 0;
  for (const _ of text) count++;
  return count;
}
