/** Measurements in processes of their own. */
import { execFile } from 'node:child_process';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import type { Rates } from './workload.ts';

/** Runs a script of this folder, which prints JSON. */
export async function runChild<T>(script: string, args: readonly string[], env: NodeJS.ProcessEnv = {}): Promise<T> {
  const path = fileURLToPath(new URL(script, import.meta.url));
  const options = { env: { ...process.env, ...env }, maxBuffer: 64 << 20 };
  const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, path, ...args], options);
  return JSON.parse(stdout) as T;
}

/** A process that got less of its processors than this was disturbed by others. */
const LEAST_BUSY = 0.95;
const TRIES = 3;

export interface Undisturbed {
  /** Missing when all tries were disturbed. */
  readonly rates?: Rates;
  readonly discarded: number;
}

/** The first of a few tries in which the processors worked for it all the time. */
export async function undisturbed(run: () => Promise<Rates>): Promise<Undisturbed> {
  for (let discarded = 0; discarded < TRIES; discarded++) {
    const rates = await run();
    if (Math.min(rates.busy.prefill, rates.busy.decode) >= LEAST_BUSY) return { rates, discarded };
  }
  return { discarded: TRIES };
}
