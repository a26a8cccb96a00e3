/** What types of weights and caches cost the bundled model: right answers, and how far the log-probabilities of the labels move. */
import { execFile } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { outputTensors } from '../src/convert/output-tensors.ts';
import { writeModel } from '../src/convert/write-model.ts';
import { openModelSource } from '../src/llm/model-source.ts';
import { type WeightType } from '../src/tensor/dtype.ts';
import { BUNDLED_NAME } from '../src/util/bundled.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { recodedWeights } from '../src/weights/recoded-weights.ts';
import { storageTypeOf } from '../src/weights/storage-type.ts';
import { ACCURACY_TYPES, type AccuracyCase, accuracyCases, EXACT_CASE } from './accuracy-cases.ts';
import { accuracyLoss, type AccuracyOutcome } from './accuracy-outcome.ts';
import { labelledRows } from './accuracy-rows.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';

/** A child prints a number for each token of each label. */
const MAX_BYTES = 64 << 20;

interface Files {
  readonly folder: string;
  readonly rows: string;
}

export async function* accuracy({ types = ACCURACY_TYPES }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const rows = await labelledRows();
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const files: Files = { folder, rows: join(folder, 'rows.json') };
    await writeFile(files.rows, JSON.stringify(rows));
    const exact = await evaluate(EXACT_CASE, files);
    for (const each of accuracyCases(types)) {
      const { right, points, error, shift } = accuracyLoss(await evaluate(each, files), exact, rows.length);
      const make = (what: string, unit: string, value: number): Figure =>
        figure({ bench: 'accuracy', case: `${each.name} ${what}`, unit, values: [value] });
      yield make('right', `% of ${rows.length}`, right);
      yield make('right over exact', 'points', points);
      yield make('log-probability error', 'nats/token', error);
      yield make('log-probability shift', 'nats/token', shift);
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** In a process of its own, because kernels are chosen once a process. */
export async function evaluate({ weights, compute, kv, isa }: AccuracyCase, { folder, rows }: Files): Promise<AccuracyOutcome> {
  const file = join(folder, 'model.gguf');
  await convert(weights, file);
  try {
    const script = new URL('accuracy-child.ts', import.meta.url).pathname;
    const options = { env: { ...process.env, FLEXLLMGEN_ISA: isa }, maxBuffer: MAX_BYTES };
    const { stdout } = await promisify(execFile)(process.execPath, [...process.execArgv, script, file, rows, compute, kv], options);
    return JSON.parse(stdout) as AccuracyOutcome;
  } finally {
    await rm(file);
  }
}

/** Writes the bundled model with its matrices in a type. */
async function convert(type: WeightType, file: string): Promise<void> {
  await using lifetime = new Lifetime();
  const source = await openModelSource(BUNDLED_NAME, lifetime);
  const weights = recodedWeights(source.weights, (spec) => (storageTypeOf(spec, type, 'auto') === type ? type : 'f32'), file);
  await writeModel(file, { metadata: await source.metadata!(), tensors: outputTensors(source.model, weights) });
}
