/** Scores given answers instead of generating one: the log-probability of each label as the continuation of a prompt. */
import { LLM } from 'flexllmgen';

await using llm = await LLM.load(undefined, { compute: 'f32' });

const prompt = 'Task: Classify the sentiment\nInput: Great product. Bought it twice and love it!\nOutput:';
const labels = [' positive', ' neutral', ' negative'];
const start = (await llm.generate([prompt], { maxTokens: 1 }))[0]!.promptTokenIds.length;

const scored = await llm.generate(
  labels.map((label) => prompt + label),
  { maxTokens: 0, promptLogprobs: 0 },
);
for (const { index, promptLogprobs } of scored) {
  const sum = promptLogprobs!.slice(start).reduce((total, position) => total + position!.logprob, 0);
  console.log(`${labels[index]!.trim()}: ${sum.toFixed(3)}`);
}
