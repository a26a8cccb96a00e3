/** FILE: loads a model, and prints when the first token came, counted from the start of the process, and what memory it took. */
import { LLM } from '../src/llm.ts';

const [file] = process.argv.slice(2) as [string];
await using llm = await LLM.load(file);
for await (const event of llm.stream([{ prompt: [4, 5], params: { maxTokens: 1, ignoreEos: true } }])) if (event.type === 'finished') break;
const seconds = performance.now() / 1000; // performance.now counts from the start of the process
console.log(JSON.stringify({ seconds, weightBytes: llm.plan.bytes.weights, residentBytes: process.memoryUsage.rss() }));
