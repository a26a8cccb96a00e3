import { readTokenizerConfig } from './special-tokens.ts';
import type { Tokenizer } from './tokenizer.ts';

/**
 * Tokens after which a model has nothing more to say. Files of chat models often name only one of theirs, or the one of the base model, and
 * the answer would run on as a made-up conversation. Source: llama.cpp, `special_eog_ids` in llama-vocab.cpp.
 */
const END_TEXTS: ReadonlySet<string> = new Set(
  (
    '<|im_end|> <|eot_id|> <|eom_id|> <end_of_turn> <|end|> <|return|> <|call|> <|endoftext|> <|end_of_text|> ' +
    '<end_of_utterance> <EOT> _<EOT> [EOT] <｜end▁of▁sentence｜>'
  ).split(' '),
);

/**
 * Ids that end a text: `eosToken`, and of the special tokens those whose text says so. Text that is spelt alike in an ordinary token is
 * content, as is `</s>` where it is not the end.
 */
export function endTokenIds(tokenizer: Tokenizer, eosToken?: string): number[] {
  const specials = Array.from(tokenizer.specialIds, (id) => [id, tokenizer.tokenText(id)] as const);
  const texts = new Set(specials.map(([, text]) => text));
  // In this one conversation format the token ends a message, after which the same turn goes on.
  const isMessageEnd = (text: string) => text === '<|end|>' && texts.has('<|return|>') && texts.has('<|call|>');
  return specials.filter(([, text]) => text === eosToken || (END_TEXTS.has(text) && !isMessageEnd(text))).map(([id]) => id);
}

/** The same with the end token that the settings of a model folder name. @throws {FormatError} */
export async function loadEndTokenIds(folder: string, tokenizer: Tokenizer): Promise<number[]> {
  const { roles } = await readTokenizerConfig(folder);
  return endTokenIds(tokenizer, roles.get('eos_token')?.content);
}
