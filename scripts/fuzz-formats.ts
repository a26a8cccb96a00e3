/**
 * Damages files of weights in every way that a seed says, and reads them in child processes: a reader may refuse a file, but never crash, hang,
 * take much memory or fail in another way. `npx tsx scripts/fuzz-formats.ts --count 100000 --seed 1 [--only zip]`; a failure names the seed,
 * and `--seed SEED --count 1` repeats it.
 */
import { type ChildProcess, fork } from 'node:child_process';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { makeSamples, mutate, readDamaged, seededRandom } from '../test/helpers/mutate-file.ts';

interface Report {
  /** The seed that comes next. */
  readonly next: number;
  readonly refused: number;
  readonly peakBytes: number;
}

interface Batch extends Report {
  readonly failure?: string;
}

/** Files that one process reads. */
const BATCH = 5000;
/** Files between two signs of life. */
const REPORT_EVERY = 50;
/** Without a sign of life a child hangs: 50 files take some 50 ms. */
const SILENCE_MS = 20_000;

const { values } = parseArgs({
  options: {
    count: { type: 'string', default: '10000' },
    seed: { type: 'string', default: '1' },
    only: { type: 'string' },
    child: { type: 'boolean', default: false },
  },
});
const [first, count] = [Number(values.seed), Number(values.count)];
await (values.child ? runChild(first, count, values.only) : runParent(first, count, values.only));

async function runParent(from: number, total: number, only: string | undefined): Promise<void> {
  const began = performance.now();
  let refused = 0;
  let peakBytes = 0;
  for (let seed = from; seed < from + total; seed += BATCH) {
    const batch = await watch(seed, Math.min(BATCH, from + total - seed), only);
    if (batch.failure !== undefined) {
      console.error(`after seed ${batch.next}: ${batch.failure}`);
      process.exitCode = 1;
      return;
    }
    refused += batch.refused;
    peakBytes = Math.max(peakBytes, batch.peakBytes);
  }
  const seconds = ((performance.now() - began) / 1000).toFixed(0);
  const peak = (peakBytes / 2 ** 20).toFixed(0);
  console.log(`${total} damaged files: ${refused} refused, ${total - refused} still read, none failed; ${seconds} s, at most ${peak} MiB`);
}

/** Runs one batch in a process of its own. */
async function watch(seed: number, length: number, only: string | undefined): Promise<Batch> {
  const args = ['--child', '--seed', String(seed), '--count', String(length), ...(only === undefined ? [] : ['--only', only])];
  const child = fork(fileURLToPath(import.meta.url), args, { execArgv: ['--import', 'tsx'] });
  let last: Report = { next: seed, refused: 0, peakBytes: 0 };
  return new Promise((resolve) => {
    let timer = setTimeout(() => stop(child), SILENCE_MS);
    child.on('message', (report: Report) => {
      last = report;
      clearTimeout(timer);
      timer = setTimeout(() => stop(child), SILENCE_MS);
    });
    child.on('close', (code, signal) => {
      clearTimeout(timer);
      const complete = code === 0 && last.next === seed + length;
      resolve({ ...last, ...(!complete && { failure: `the process ended with ${signal ?? `code ${code}`}` }) });
    });
  });
}

function stop(child: ChildProcess): void {
  console.error(`no sign of life for ${SILENCE_MS} ms`);
  child.kill('SIGKILL');
}

async function runChild(from: number, length: number, only: string | undefined): Promise<void> {
  const samples = makeSamples().filter(({ name }) => only === undefined || name === only);
  let refused = 0;
  for (let seed = from; seed < from + length; seed++) {
    const random = seededRandom(seed);
    const sample = samples[random(samples.length)]!;
    try {
      if (await readDamaged(sample, mutate(sample.bytes, random))) refused++;
    } catch (cause) {
      console.error(`seed ${seed}, ${sample.name}:`, cause);
      process.exitCode = 1;
      break;
    }
    const next = seed + 1;
    if (next % REPORT_EVERY === 0 || next === from + length)
      process.send?.({ next, refused, peakBytes: process.resourceUsage().maxRSS * 1024 } satisfies Report);
  }
  process.disconnect();
}
