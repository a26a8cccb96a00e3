/** Loads, uses and closes models over and over; prints the resident bytes after each stage. Started by lifetime.test.ts with --expose-gc. */
import { LLM } from '../../src/llm.ts';
import { fixtureFolder } from '../helpers/golden.ts';

async function cycle(folder: string | undefined): Promise<void> {
  await using llm = await LLM.load(folder, { threads: 1 });
  await llm.generate([[5, 6, 7]], { maxTokens: 2, ignoreEos: true });
}

async function stage(tiny: number, bundled: number): Promise<number> {
  for (let i = 0; i < tiny; i++) await cycle(fixtureFolder('opt'));
  for (let i = 0; i < bundled; i++) await cycle(undefined);
  (globalThis as { gc?: () => void }).gc!();
  return process.memoryUsage().rss;
}

console.log(JSON.stringify([await stage(100, 10), await stage(100, 10), await stage(100, 10)]));
