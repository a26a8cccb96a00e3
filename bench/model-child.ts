/** FILE: seconds of a 512-token prompt, and tokens per second of 64 rows that decode together, with the kernels that FLEXLLMGEN_ISA names. */
import { LLM } from '../src/llm.ts';

const PROMPT_TOKENS = 512;
const ROWS = 64;
const DECODED = 16;

const [file] = process.argv.slice(2) as [string];
await using llm = await LLM.load(file, { gpuBatchSize: ROWS });
const prompt = (length: number, seed: number): number[] => Array.from({ length }, (_, i) => 4 + ((i * 7919 + seed * 104_729) % 20_000));

async function statsOf(prompts: readonly number[][], maxTokens: number) {
  let seconds = { prefill: 0, decode: 0 };
  for await (const event of llm.stream(prompts.map((each) => ({ prompt: each, params: { maxTokens, ignoreEos: true } }))))
    if (event.type === 'sweep') seconds = event.stats.seconds;
  return seconds;
}

await statsOf([prompt(8, 1)], 1); // weights are there, programs are compiled
const { prefill } = await statsOf([prompt(PROMPT_TOKENS, 2)], 1);
const { decode } = await statsOf(
  Array.from({ length: ROWS }, (_, i) => prompt(1, i)),
  DECODED + 1,
);
console.log(JSON.stringify({ prefill: PROMPT_TOKENS / prefill, decode: (ROWS * DECODED) / decode, kernels: llm.info.kernels }));
