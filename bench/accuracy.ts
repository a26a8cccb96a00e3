/** What types of weights and caches cost the bundled model: right answers, and how far the log-probabilities of the labels move. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { fileURLToPath } from 'node:url';
import { outputTensors } from '../src/convert/output-tensors.ts';
import { writeModel } from '../src/convert/write-model.ts';
import { openModelSource } from '../src/llm/model-source.ts';
import { type WeightType } from '../src/tensor/dtype.ts';
import { BUNDLED_NAME } from '../src/util/bundled.ts';
import { processorFacts } from '../src/util/machine.ts';
import { readAhead } from '../src/util/read-ahead.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { recodedWeights } from '../src/weights/recoded-weights.ts';
import { storageTypeOf } from '../src/weights/storage-type.ts';
import { ACCURACY_TYPES, type AccuracyCase, accuracyCases, EXACT_CASE } from './accuracy-cases.ts';
import { type AccuracyLoss, accuracyLoss, type AccuracyOutcome } from './accuracy-outcome.ts';
import { labelledRows } from './accuracy-rows.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';

/** A child prints a number for each token of each label. */
const MAX_BYTES = 64 << 20;

/** Where a model may be written, and a JSON list of labelled rows. */
export interface AccuracyFiles {
  readonly folder: string;
  readonly rows: string;
}

export async function* accuracy({ types = ACCURACY_TYPES }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const rows = await labelledRows();
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const files: AccuracyFiles = { folder, rows: join(folder, 'rows.json') };
    await writeFile(files.rows, JSON.stringify(rows));
    // Children have one thread each: two of them get more out of two cores than one after another, for the model is small.
    const cases = [EXACT_CASE, ...accuracyCases(types)];
    const outcomes = readAhead(cases, processorFacts().threads, async (each) => ({ each, outcome: await evaluate(each, files) }));
    let exact: AccuracyOutcome | undefined;
    for await (const { each, outcome } of outcomes) {
      exact ??= outcome;
      if (each !== EXACT_CASE) yield* lossFigures(each.name, accuracyLoss(outcome, exact, rows.length), rows.length);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

function* lossFigures(name: string, { right, points, error, shift }: AccuracyLoss, rows: number): Generator<Figure, void, void> {
  const make = (what: string, unit: string, value: number): Figure =>
    figure({ bench: 'accuracy', case: `${name} ${what}`, unit, values: [value] });
  yield make('right', `% of ${rows}`, right);
  yield make('right over exact', 'points', points);
  yield make('log-probability error', 'nats/token', error);
  yield make('log-probability shift', 'nats/token', shift);
}

/** Runs the bundled model in a process of its own, because kernels are chosen once a process. */
export async function evaluate({ weights, compute, kv, isa }: AccuracyCase, { folder, rows }: AccuracyFiles): Promise<AccuracyOutcome> {
  const own = await mkdtemp(join(folder, 'case-'));
  const file = join(own, 'model.gguf');
  try {
    await convert(weights, file);
    const script = fileURLToPath(new URL('accuracy-child.ts', import.meta.url));
    const options = { env: { ...process.env, FLEXLLMGEN_ISA: isa }, maxBuffer: MAX_BYTES };
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', script, file, rows, compute, kv], options);
    return JSON.parse(stdout) as AccuracyOutcome;
  } finally {
    await rm(own, { recursive: true });
  }
}

/** Writes the bundled model with its matrices in a type. */
async function convert(type: WeightType, file: string): Promise<void> {
  await using lifetime = new Lifetime();
  const source = await openModelSource(BUNDLED_NAME, lifetime);
  const weights = recodedWeights(source.weights, (spec) => (storageTypeOf(spec, type, 'auto') === type ? type : 'f32'), file);
  await writeModel(file, { metadata: await source.metadata!(), tensors: outputTensors(source.model, weights) });
}
