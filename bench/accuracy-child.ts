/** FILE ROWS COMPUTE KV_TYPE: how well a model answers labelled rows, on one thread, with the kernels that FLEXLLMGEN_ISA names. */
import { readFile } from 'node:fs/promises';
import { LLM } from '../src/llm.ts';
import type { LoadOptions } from '../src/llm/load-options.ts';
import type { GenerationResult } from '../src/requests.ts';
import type { AccuracyOutcome } from './accuracy-outcome.ts';
import type { LabelledRow } from './accuracy-rows.ts';

/** Ends an answer. */
const END = '</s>';
const ROWS_TOGETHER = 256;
/** More than the longest right answer has. */
const MAX_TOKENS = 72;

const [file, rowsFile, compute, kvType] = process.argv.slice(2) as [string, string, 'auto' | 'f32', NonNullable<LoadOptions['kvType']>];
const rows = JSON.parse(await readFile(rowsFile, 'utf8')) as readonly LabelledRow[];
await using llm = await LLM.load(file, { compute, kvType, gpuBatchSize: ROWS_TOGETHER, threads: 1 });

/** Where the tokens of the label begin; the last token is the end. */
function startOfLabel(ids: readonly number[], label: string): number {
  let start = ids.length - 1;
  for (let length = 0; length < label.length; length += llm.tokenText(ids[start]!).length) start--;
  return start;
}

const scored = await llm.generate(
  rows.map(({ prompt, expected }) => `${prompt} ${expected}${END}`),
  { maxTokens: 0, promptLogprobs: 1 },
);
const starts = scored.map(({ promptTokenIds }, i) => startOfLabel(promptTokenIds, ` ${rows[i]!.expected}`));
/** A greedy answer is the label's own tokens where each of them is the most probable one after those before it. */
const isFavourite = ({ promptTokenIds, promptLogprobs }: GenerationResult, i: number): boolean =>
  promptTokenIds.every((id, at) => at < starts[i]! || promptLogprobs![at]!.top[0]!.id === id);
const others = rows.filter((_, i) => !isFavourite(scored[i]!, i));
// The others may still spell the label with other tokens.
const answers = await llm.generate(
  others.map(({ prompt }) => prompt),
  { maxTokens: MAX_TOKENS },
);
const spelled = answers.filter(({ text }, i) => text.trim() === others[i]!.expected).length;
const outcome: AccuracyOutcome = {
  right: rows.length - others.length + spelled,
  logprobs: scored.flatMap(({ promptLogprobs }, i) => promptLogprobs!.slice(starts[i]).map((position) => position!.logprob)),
  kernels: llm.info.kernels,
};
process.stdout.write(JSON.stringify(outcome));
