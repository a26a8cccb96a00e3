/** Two devices are timed in turns. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Works of a round last at least so long, since a single one is shorter than what disturbs it. */
const LEAST_SECONDS = 0.05;
/** ggml's threads go on looking for work for so long, on the cores that the others need. */
const SLEEP_MS = 300;

/** Copies of one piece of work, so that what it reads comes from memory. */
export type Works = readonly (() => Promise<void>)[];

/** Seconds of one work of each kind, by rounds that take turns. */
export async function alternate(first: Works, second: Works, rounds: number): Promise<[number[], number[]]> {
  const [one, two]: [number[], number[]] = [[], []];
  const counts = [await calibrate(first), await calibrate(second)] as const;
  await sleep(SLEEP_MS);
  for (let round = 0; round < rounds; round++) {
    one.push(await time(first, counts[0]));
    two.push(await time(second, counts[1]));
    await sleep(SLEEP_MS);
  }
  return [one, two];
}

async function calibrate(works: Works): Promise<number> {
  for (const work of works) await work();
  const once = await time(works, works.length);
  return Math.max(works.length, Math.ceil(LEAST_SECONDS / once));
}

/** One work goes before: ggml's devices compute the first graph behind a gap on one thread. */
async function time(works: Works, count: number): Promise<number> {
  await works.at(-1)!();
  const began = performance.now();
  for (let i = 0; i < count; i++) await works[i % works.length]!();
  return (performance.now() - began) / 1000 / count;
}
