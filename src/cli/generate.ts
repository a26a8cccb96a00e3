import { createInterface } from 'node:readline/promises';
import type { LLM } from '../llm.ts';
import type { GenerationEvent, GenerationRequest, GenerationResult } from '../requests.ts';
import { UsageError, type FlexError } from '../util/errors.ts';
import { unescapeText } from './escapes.ts';
import { EXIT } from './exit-code.ts';
import { onInterrupt } from './interrupt.ts';
import { loadModel } from './model.ts';
import { generationParams } from './options.ts';
import type { GenerateOptions } from './program.ts';
import { oneLine } from './render.ts';

/** `flexllmgen generate` */
export async function generate(prompts: readonly string[], options: GenerateOptions): Promise<number> {
  const fromStdin = prompts.length === 0;
  if (fromStdin && process.stdin.isTTY) throw new UsageError('no prompt: give one as an argument, or one per line on standard input');
  using interruption = onInterrupt(() => {});
  // A reader that has gone, as in `| head -1`, ends the work.
  const readerGone = new AbortController();
  process.stdout.once('error', () => readerGone.abort());
  const signal = AbortSignal.any([interruption.signal, readerGone.signal]);
  await using llm = await loadModel(options, signal, generationParams(options));
  const kept = new Map<number, string>();
  const printer = options.json ? jsonPrinter(kept, llm) : prompts.length === 1 ? streamPrinter() : textPrinter();
  let failed = false;
  for await (const event of llm.stream(requests(fromStdin ? stdinLines(signal) : prompts, options.json ? kept : undefined), { signal })) {
    failed ||= event.type === 'failed';
    printer(event);
  }
  return failed ? EXIT.someRowsFailed : EXIT.ok;
}

/** Ends when aborted, too: a pipe that says nothing for a while must not hold up Ctrl-C. */
async function* stdinLines(signal: AbortSignal): AsyncGenerator<string, void, void> {
  const lines = createInterface({ input: process.stdin, crlfDelay: Infinity, signal });
  try {
    yield* lines;
  } finally {
    lines.close();
    process.stdin.destroy();
  }
}

/** @param kept gains the prompt of each request that was drawn, for those who print it */
async function* requests(
  prompts: Iterable<string> | AsyncIterable<string>,
  kept: Map<number, string> | undefined,
): AsyncGenerator<GenerationRequest, void, void> {
  let index = 0;
  for await (const line of prompts) {
    const prompt = unescapeText(line);
    kept?.set(index++, prompt);
    yield { prompt };
  }
}

type Printer = (event: GenerationEvent) => void;

/** A single answer, as it grows. */
function streamPrinter(): Printer {
  return (event) => {
    if (event.type === 'token') process.stdout.write(event.text);
    else if (event.type === 'finished') process.stdout.write('\n');
    else if (event.type === 'failed') printFailure(event.index, event.error);
  };
}

/** Whole answers, each with a line break, in the order of the prompts. */
function textPrinter(): Printer {
  return inOrder((outcome, index) => {
    if ('text' in outcome) process.stdout.write(`${outcome.text}\n`);
    else printFailure(index, outcome);
  });
}

function jsonPrinter(prompts: Map<number, string>, llm: LLM): Printer {
  const named = (id: number) => ({ id, text: llm.tokenText(id) });
  return inOrder((outcome, index) => {
    const prompt = prompts.get(index);
    prompts.delete(index);
    const body = 'text' in outcome ? resultFields(outcome, named) : { error: { code: outcome.code, message: outcome.message } };
    process.stdout.write(`${JSON.stringify({ index, prompt, ...body })}\n`);
  });
}

function resultFields(result: GenerationResult, named: (id: number) => { id: number; text: string }): Record<string, unknown> {
  const { text, finishReason, promptTokenIds, tokenIds, logprobs } = result;
  const entries = logprobs?.map(({ id, logprob, top }) => ({
    ...named(id),
    logprob,
    top: top.map((alternative) => ({ ...named(alternative.id), logprob: alternative.logprob })),
  }));
  return {
    text,
    finishReason,
    promptTokens: promptTokenIds.length,
    generatedTokens: tokenIds.length,
    ...(entries && { logprobs: entries }),
  };
}

/** Holds back what finished early until everything before it is printed. */
function inOrder(print: (outcome: GenerationResult | FlexError, index: number) => void): Printer {
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

function printFailure(index: number, error: FlexError): void {
  process.stderr.write(`flexllmgen: prompt ${index + 1}: ${oneLine(error.message)}\n`);
}
