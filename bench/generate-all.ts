import { LLM } from '../src/llm.ts';
import type { LoadOptions } from '../src/llm/load-options.ts';
import type { GenerationRequest, RunStats } from '../src/requests.ts';

export interface Run {
  readonly rows: number;
  readonly seconds: number;
  readonly stats: RunStats;
}

/** Loads a model and answers all requests; loading and the first sweep are not timed. */
export async function generateAll(model: string, options: LoadOptions, requests: readonly GenerationRequest[]): Promise<Run> {
  await using llm = await LLM.load(model, options);
  await llm.generate([{ prompt: [4, 5], params: { maxTokens: 2, ignoreEos: true } }]); // weights are read with the first sweep
  let stats: RunStats | undefined;
  const started = performance.now();
  for await (const event of llm.stream(requests)) if (event.type === 'sweep') stats = event.stats;
  return { rows: requests.length, seconds: (performance.now() - started) / 1000, stats: stats! };
}
