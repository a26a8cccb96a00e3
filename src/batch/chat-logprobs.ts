import type { PositionLogprobs } from '../sampling/params.ts';
import type { ChatLogprobs, ChatToken } from './rows.ts';

/** @param tokenText text of a token, U+FFFD for a part of a character */
export function toChatLogprobs(positions: readonly PositionLogprobs[], tokenText: (id: number) => string): ChatLogprobs {
  const token = (id: number, logprob: number): ChatToken => {
    const text = tokenText(id);
    return { token: text, logprob, bytes: text.includes('\u{fffd}') ? null : [...Buffer.from(text)] };
  };
  return {
    content: positions.map(({ id, logprob, top }) => ({
      ...token(id, logprob),
      top_logprobs: top.map((alternative) => token(alternative.id, alternative.logprob)),
    })),
    refusal: null,
  };
}
