import { createInterface } from 'node:readline/promises';
import type { LLM } from '../llm.ts';
import type { ChatMessage, GenerationRequest } from '../requests.ts';
import { UsageError } from '../util/errors.ts';
import { jsonPrinter, streamPrinter, textPrinter, type AnswerPrinter } from './answer-printer.ts';
import { unescapeText } from './escapes.ts';
import { EXIT } from './exit-code.ts';
import { onInterrupt } from './interrupt.ts';
import { loadModel } from './model.ts';
import { generationParams } from './options.ts';
import { PROCESS_OUTPUT } from './output.ts';
import type { GenerateOptions } from './program.ts';
import { stderrProgress } from './progress.ts';

type Prompt = string | readonly number[];

/** `flexllmgen generate` */
export async function generate(prompts: readonly string[], options: GenerateOptions): Promise<number> {
  if (options.tokenIds && asksInChat(options)) throw new UsageError('--token-ids: a conversation is text; leave out --chat and --system');
  if (prompts.length === 0 && process.stdin.isTTY)
    throw new UsageError('no prompt: give one as an argument, or one per line on standard input');
  using interruption = onInterrupt(() => {});
  // A reader that has gone, as in `| head -1`, ends the work without a word.
  const readerGone = new AbortController();
  process.stdout.once('error', () => readerGone.abort());
  try {
    return await answer(prompts, options, AbortSignal.any([interruption.signal, readerGone.signal]));
  } catch (error) {
    if (readerGone.signal.aborted) return EXIT.interrupted;
    throw error;
  }
}

async function answer(prompts: readonly string[], options: GenerateOptions, signal: AbortSignal): Promise<number> {
  const progress = stderrProgress({ json: false });
  await using llm = await loadModel(options, progress, signal, { defaults: generationParams(options) });
  progress.end();
  if (llm.hasChatTemplate && !asksInChat(options) && !options.tokenIds)
    process.stderr.write('flexllmgen: this model was trained on conversations; --chat puts the prompt into its chat template\n');
  const pending = new Map<number, Prompt>();
  const printer = choosePrinter(options, prompts.length === 1, pending, llm);
  const lines = prompts.length === 0 ? stdinLines(signal) : prompts;
  let failed = false;
  for await (const event of llm.stream(requests(lines, options, pending), { signal })) {
    failed ||= event.type === 'failed';
    printer(event);
  }
  return failed ? EXIT.someRowsFailed : EXIT.ok;
}

function choosePrinter(options: GenerateOptions, single: boolean, prompts: Map<number, Prompt>, llm: LLM): AnswerPrinter {
  const withTokenIds = options.tokenIds ?? false;
  if (options.json) return jsonPrinter(PROCESS_OUTPUT, { prompts, tokenText: (id) => llm.tokenText(id), withTokenIds });
  return single ? streamPrinter(PROCESS_OUTPUT, withTokenIds) : textPrinter(PROCESS_OUTPUT, withTokenIds);
}

/** @param pending gains the prompt of each request that was drawn, if they will be printed */
async function* requests(
  lines: Iterable<string> | AsyncIterable<string>,
  options: GenerateOptions,
  pending: Map<number, Prompt>,
): AsyncGenerator<GenerationRequest, void, void> {
  let index = 0;
  for await (const line of lines) {
    const prompt = options.tokenIds ? parseTokenIds(line) : unescapeText(line);
    if (options.json) pending.set(index++, prompt);
    yield { prompt: asksInChat(options) && typeof prompt === 'string' ? { messages: chatOf(prompt, options) } : prompt };
  }
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

const asksInChat = ({ chat, system }: GenerateOptions): boolean => chat === true || system !== undefined;

function chatOf(prompt: string, { system }: GenerateOptions): ChatMessage[] {
  const user = { role: 'user', content: prompt };
  return system === undefined ? [user] : [{ role: 'system', content: system }, user];
}

function parseTokenIds(line: string): number[] {
  const words = line.split(/[\s,]+/).filter((word) => word !== '');
  const wrong = words.find((word) => !/^\d+$/.test(word));
  if (wrong !== undefined) throw new UsageError(`--token-ids: numbers separated by spaces expected, got "${wrong.slice(0, 40)}"`);
  return words.map(Number);
}
