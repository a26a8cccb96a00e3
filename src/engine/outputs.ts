/** Between the positions that pass the head and the sequences that they belong to. */
import type { LogitsRow, TakenRow } from '../sampling/rows.ts';
import type { MicroBatch, OutputPosition } from './micro-batch.ts';
import type { Sequence } from './sequence.ts';

/** What is wanted of one position's logits: the score of a token of the prompt, or the next token. */
export function logitsRow({ sequence, position }: OutputPosition, logits: Float32Array): LogitsRow {
  const { request, generated, counts } = sequence;
  const { sampling: params, tokens, key, mask } = request;
  const place = { key, position };
  if (position < tokens.length) return { logits, params, place, known: tokens[position]!, alternatives: params.promptLogprobs ?? 0 };
  return { logits, params, place, mask: mask?.(generated), tokens: counts, alternatives: params.logprobs };
}

/** @returns the sampled token, if one was */
export function noteTaken({ sequence, position }: OutputPosition, { id, logprobs }: TakenRow): { id: number; token: number }[] {
  const { request } = sequence;
  if (position < request.tokens.length) {
    sequence.promptLogprobs!.push(logprobs!);
    return [];
  }
  if (logprobs) sequence.logprobs!.push(logprobs);
  sequence.push(id);
  return [{ id: request.id, token: id }];
}

/** The sequence that a row of the hidden state belongs to. */
export function sequenceOfRow({ sequences, rows }: MicroBatch, row: number): Sequence {
  let next = 0;
  const index = rows.findIndex(({ tokens }) => (next += tokens.length) > row);
  return sequences[index] ?? sequences[0]!;
}
