/** Takes results as they finish, from a source that may be endless, and stops when there are enough. */
import { LLM, type GenerationRequest } from 'flexllmgen';

async function* requests(): AsyncGenerator<GenerationRequest> {
  for (let grams = 100; ; grams += 50) yield { prompt: `Task: Convert the weight to grams\nInput: ${grams / 1000} kg\nOutput:` };
}

await using llm = await LLM.load(undefined, { gpuBatchSize: 4 });

let finished = 0;
for await (const event of llm.stream(requests())) {
  if (event.type === 'finished') console.log(`${event.index}: ${event.result.text.trim()}`);
  if (event.type === 'failed') console.error(`${event.index}: ${event.error.message}`);
  if (event.type === 'finished' && ++finished === 8) break;
}
