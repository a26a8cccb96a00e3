import type { GenerationEvent, GenerationRequest, GenerationResult } from '../requests.ts';
import type { FlexError } from '../util/errors.ts';
import type { CliOutput } from './output.ts';
import { oneLine } from './render.ts';

/** Shows the events of a generation as they come. */
export type AnswerPrinter = (event: GenerationEvent) => void;

export interface JsonPrinterOptions {
  /** Prompts by index; taken out when they are printed. */
  readonly prompts: Map<number, GenerationRequest['prompt']>;
  readonly tokenText: (id: number) => string;
  readonly withTokenIds: boolean;
}

/** A single answer, as it grows; as text or as token ids. */
export function streamPrinter(output: CliOutput, asTokenIds: boolean): AnswerPrinter {
  let shown = 0;
  return (event) => {
    if (event.type === 'token') {
      const text = asTokenIds ? `${shown > 0 ? ' ' : ''}${event.id}` : event.text;
      output.out(text);
      shown += text.length;
    } else if (event.type === 'finished') {
      // The end of the text may have been held back as the possible beginning of a stop string.
      output.out(`${asTokenIds ? '' : event.result.text.slice(shown)}\n`);
    } else if (event.type === 'failed') printFailure(output, event.index, event.error);
  };
}

/** Whole answers, each with a line break, in the order of the prompts. */
export function textPrinter(output: CliOutput, asTokenIds: boolean): AnswerPrinter {
  return inOrder((outcome, index) => {
    if ('text' in outcome) output.out(`${asTokenIds ? outcome.tokenIds.join(' ') : outcome.text}\n`);
    else printFailure(output, index, outcome);
  });
}

/** A line of JSON per prompt, in their order. */
export function jsonPrinter(output: CliOutput, { prompts, tokenText, withTokenIds }: JsonPrinterOptions): AnswerPrinter {
  return inOrder((outcome, index) => {
    const prompt = prompts.get(index);
    prompts.delete(index);
    const body =
      'text' in outcome ? resultFields(outcome, tokenText, withTokenIds) : { error: { code: outcome.code, message: outcome.message } };
    output.out(`${JSON.stringify({ index, prompt, ...body })}\n`);
  });
}

function resultFields(result: GenerationResult, tokenText: (id: number) => string, withTokenIds: boolean): Record<string, unknown> {
  const { text, tokenIds, finishReason, promptTokenIds, logprobs } = result;
  const named = ({ id, logprob }: { readonly id: number; readonly logprob: number }) => ({ id, text: tokenText(id), logprob });
  return {
    text,
    ...(withTokenIds && { tokenIds }),
    finishReason,
    promptTokens: promptTokenIds.length,
    generatedTokens: tokenIds.length,
    ...(logprobs && { logprobs: logprobs.map((position) => ({ ...named(position), top: position.top.map(named) })) }),
  };
}

/** Holds back what finished early until everything before it is printed. */
function inOrder(print: (outcome: GenerationResult | FlexError, index: number) => void): AnswerPrinter {
  const waiting = new Map<number, GenerationResult | FlexError>();
  let next = 0;
  return (event) => {
    if (event.type === 'finished') waiting.set(event.index, event.result);
    else if (event.type === 'failed') waiting.set(event.index, event.error);
    else return;
    for (let outcome = waiting.get(next); outcome; outcome = waiting.get(next)) {
      waiting.delete(next);
      print(outcome, next++);
    }
  };
}

function printFailure(output: CliOutput, index: number, error: FlexError): void {
  output.err(`flexllmgen: prompt ${index + 1}: ${oneLine(error.message)}\n`);
}
