/** Any published OPT shape runs without its files, on random weights: to see how fast it would be here, and what memory it takes. */
import { LLM } from 'flexllmgen';

await using llm = await LLM.load('opt-125m', { dummy: true, gpuBatchSize: 8 });
console.log(`planned memory: ${Math.round(llm.plan.bytes.total / 2 ** 20)} MiB`);

const prompts = Array.from({ length: 8 }, (_, row) => [2, 100 + row, 200 + row]);
for await (const event of llm.stream(prompts.map((prompt) => ({ prompt, params: { maxTokens: 8, ignoreEos: true } })))) {
  if (event.type !== 'sweep' || event.stats.running > 0) continue;
  const { tokens, seconds } = event.stats;
  console.log(`generated ${tokens.generated} tokens, ${Math.round((tokens.generated - 8) / seconds.decode)} tokens/s after the prompts`);
}
