/** Choosing tokens from logits: our kernels and the TypeScript reference on the same rows, and the time that reading the rows once from memory takes. */
import { type Kernels, loadKernels, type Team, viewOf } from '../src/native/kernels.ts';
import { NativeRows } from '../src/sampling/native-rows.ts';
import { type LogitsRow, takeRows } from '../src/sampling/rows.ts';
import type { ChoiceParams } from '../src/sampling/sampler.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import { type BenchOptions, type Figure, figure, median } from './figure.ts';
import { COLD_BYTES } from './peaks.ts';

const VOCABULARIES = [50_272, 151_936];
const ROWS = 64;
/** Of most logits; a few candidates stand out, from PEAK down. */
const SPREAD = 3;
const CANDIDATES = 20;
const PEAK = 20;
const OFF: ChoiceParams = {
  temperature: 1,
  topK: 0,
  topP: 1,
  minP: 0,
  repetitionPenalty: 1,
  presencePenalty: 0,
  frequencyPenalty: 0,
  seed: 1,
};
const CASES: readonly (readonly [string, Partial<ChoiceParams>, number?])[] = [
  ['greedy', { temperature: 0 }],
  ['temperature', { temperature: 0.8 }],
  ['top-k 50, top-p 0.9', { temperature: 0.8, topK: 50, topP: 0.9 }],
  ['top-p 0.9', { temperature: 0.8, topP: 0.9 }],
  ['greedy, logprobs 5', { temperature: 0 }, 5],
  ['temperature, logprobs 5', { temperature: 0.8 }, 5],
];

export async function* sampling({ rounds }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('sampling: there are no own kernels here; npm run build compiles them');
  const team = kernels.teamCreate(processorFacts().threads)!;
  const cold = kernels.memoryCreate(COLD_BYTES)!;
  try {
    viewOf(cold, COLD_BYTES).fill(1); // memory that was never written is one page of zeros
    // Between two measurements, so that no row is in a cache.
    const flush = (): void => kernels.read(team, cold, COLD_BYTES);
    for (const vocabulary of VOCABULARIES) yield* ofVocabulary(kernels, team, vocabulary, rounds, flush);
  } finally {
    kernels.memoryFree(cold);
    kernels.teamFree(team);
  }
}

async function* ofVocabulary(
  kernels: Kernels,
  team: Team,
  vocabulary: number,
  rounds: number,
  flush: () => void,
): AsyncGenerator<Figure, void, void> {
  const bytes = Math.ceil((ROWS * vocabulary * 4) / 2 ** 20) * 2 ** 20; // what `read` takes
  const memory = kernels.memoryCreate(bytes)!;
  try {
    const native = new NativeRows();
    const view = viewOf(memory, bytes);
    const logits = new Float32Array(view.buffer, view.byteOffset, ROWS * vocabulary);
    fillNormally(logits);
    for (let i = 0; i < ROWS * CANDIDATES; i++) {
      const rank = i % CANDIDATES;
      const row = (i - rank) / CANDIDATES;
      logits[row * vocabulary + ((rank * 7919 + row * 131) % vocabulary)] = PEAK - 0.4 * rank;
    }
    /** Microseconds a row. */
    const time = async (work: () => unknown): Promise<number> => {
      flush();
      const began = performance.now();
      await work();
      return ((performance.now() - began) * 1000) / ROWS;
    };
    const limits: number[] = [];
    for (let round = 0; round <= rounds; round++) limits.push(await time(() => kernels.read(team, memory, bytes)));
    const limit = median(limits.slice(1));
    const make = (what: string, unit: string, values: readonly number[], most?: number): Figure =>
      figure({ bench: 'sampling', case: `${vocabulary}: ${what}`, unit, values, ...(most !== undefined && { limit: most }) });
    yield make('logits read once', 'us/row', limits.slice(1));
    for (const [name, params, alternatives] of CASES) {
      const rows = rowsOf(logits, vocabulary, { ...OFF, ...params }, alternatives);
      const [ours, theirs]: [number[], number[]] = [[], []];
      for (let round = 0; round <= rounds; round++) {
        ours.push(await time(() => native.take(kernels, team, rows)));
        theirs.push(await time(() => takeRows(rows)));
      }
      // The first round warms up.
      const [a, b] = [ours.slice(1), theirs.slice(1)];
      yield make(`${name}, ${kernels.isa}`, 'us/row', a, limit);
      yield make(`${name}, TypeScript`, 'us/row', b);
      yield make(
        `${name}, over TypeScript`,
        'x',
        a.map((each, i) => b[i]! / each),
      );
    }
  } finally {
    kernels.memoryFree(memory);
  }
}

function rowsOf(logits: Float32Array, vocabulary: number, params: ChoiceParams, alternatives: number | undefined): LogitsRow[] {
  return Array.from({ length: ROWS }, (_, key) => ({
    logits: logits.subarray(key * vocabulary, (key + 1) * vocabulary),
    params,
    place: { key, position: 0 },
    alternatives,
  }));
}

/** By the transform of Box and Muller, of numbers that only look random. */
function fillNormally(values: Float32Array): void {
  for (let i = 0; i < values.length; i++) {
    const u = (((i * 7919) % 1_000_003) + 1) / 1_000_004;
    values[i] = SPREAD * Math.sqrt(-2 * Math.log(u)) * Math.cos(i * 5077.3);
  }
}
