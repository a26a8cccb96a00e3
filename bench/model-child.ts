/** FILE: seconds of a prompt, and tokens per second of rows that decode together, with the kernels that FLEXLLMGEN_ISA names. */
import { LLM } from '../src/llm.ts';
import { processorFacts } from '../src/util/machine.ts';
import { DECODED, PROMPT_TOKENS, promptOf, type Rates, ROWS, stopwatch } from './workload.ts';

const [file] = process.argv.slice(2) as [string];
const { threads } = processorFacts();
await using llm = await LLM.load(file, { gpuBatchSize: ROWS, threads });

/** The first sweep computes the prompts, the others decode. */
async function measure(prompts: readonly number[][], maxTokens: number) {
  let seconds = { prefill: 0, decode: 0 };
  let stop = stopwatch(threads);
  const busy = { prefill: 0, decode: 0 };
  for await (const event of llm.stream(prompts.map((each) => ({ prompt: each, params: { maxTokens, ignoreEos: true } })))) {
    if (event.type !== 'sweep') continue;
    const before = seconds;
    seconds = event.stats.seconds;
    if (before.prefill === seconds.prefill) busy.decode = stop().busy;
    else {
      busy.prefill = stop().busy;
      stop = stopwatch(threads);
    }
  }
  return { seconds, busy };
}

await measure([promptOf(8, 1)], 1); // weights are there, programs are compiled
const prefill = await measure([promptOf(PROMPT_TOKENS, 2)], 1);
const decode = await measure(
  Array.from({ length: ROWS }, (_, i) => promptOf(1, i)),
  DECODED + 1,
);
const rates: Rates = {
  threads,
  prefill: PROMPT_TOKENS / prefill.seconds.prefill,
  decode: (ROWS * DECODED) / decode.seconds.decode,
  busy: { prefill: prefill.busy.prefill, decode: decode.busy.decode },
};
console.log(JSON.stringify(rates));
