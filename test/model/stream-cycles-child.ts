/** 50 jobs whose weights pass through memory; prints the resident bytes after the 5th and the last. Started by lifetime.test.ts with --expose-gc. */
import { LLM } from '../../src/llm.ts';

const REQUESTS = Array.from({ length: 8 }, (_, i) => ({ prompt: [5, 60 + i, 700], params: { maxTokens: 4, ignoreEos: true } }));

async function jobs(count: number): Promise<number> {
  for (let i = 0; i < count; i++) {
    await using llm = await LLM.load(undefined, { threads: 1, percent: [0, 20, 0, 100, 0, 100], gpuBatchSize: 4 });
    await llm.generate(REQUESTS);
    (globalThis as { gc?: () => void }).gc!(); // what is only not collected yet would hide what is lost
  }
  return process.memoryUsage().rss;
}

console.log(JSON.stringify([await jobs(5), await jobs(45)]));
