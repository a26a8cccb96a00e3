/** Works are timed in turns: what disturbs a machine for a second meets all of them. */
import { setTimeout as sleep } from 'node:timers/promises';

/** Works of a round last at least so long, since a single one is shorter than what disturbs it. */
const LEAST_SECONDS = 0.05;
/** ggml's threads go on looking for work for so long, on the cores that the others need. */
const SLEEP_MS = 300;

/** Copies of one piece of work, so that what it reads comes from memory. */
export type Works = readonly (() => Promise<void>)[];

/** Seconds of one work of each kind, by rounds in which they take turns. `before` measures what the machine gives in that round. */
export async function alternate(kinds: readonly Works[], rounds: number, before: () => void = () => {}): Promise<number[][]> {
  const counts: number[] = [];
  for (const works of kinds) counts.push(await calibrate(works));
  const seconds: number[][] = kinds.map(() => []);
  for (let round = 0; round < rounds; round++) {
    await sleep(SLEEP_MS);
    before();
    for (const [i, works] of kinds.entries()) seconds[i]!.push(await time(works, counts[i]!));
  }
  return seconds;
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
