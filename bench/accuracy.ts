/** What block types cost the bundled model: right answers on its table, and how far the log-probabilities of the labels move. */
import { mkdtemp, readFile, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parse } from 'csv-parse/sync';
import { outputTensors } from '../src/convert/output-tensors.ts';
import { writeModel } from '../src/convert/write-model.ts';
import { LLM } from '../src/llm.ts';
import { openModelSource } from '../src/llm/model-source.ts';
import { byteLengthOf, elementCount, type WeightType } from '../src/tensor/dtype.ts';
import { BUNDLED_NAME, BUNDLED_TABLE } from '../src/util/bundled.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { recodedWeights } from '../src/weights/recoded-weights.ts';
import { storageTypeOf } from '../src/weights/storage-type.ts';
import { type Figure, figure } from './figure.ts';

const TYPES: readonly WeightType[] = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'q4_k'];

interface Row {
  readonly prompt: string;
  readonly expected: string;
}

interface Outcome {
  readonly right: number;
  /** Of all tokens of all labels. */
  readonly logprobs: readonly number[];
  readonly bitsPerWeight: number;
}

export async function* accuracy(): AsyncGenerator<Figure, void, void> {
  const table: Record<string, string>[] = parse(await readFile(BUNDLED_TABLE), { columns: true });
  const rows = table.map(({ instruction, input, expected }) => ({
    prompt: `Task: ${instruction}\nInput: ${input}\nOutput:`,
    expected: expected!,
  }));
  let exact: Outcome | undefined;
  for (const type of TYPES) {
    const outcome = await evaluate(type, rows);
    exact ??= outcome;
    const make = (what: string, unit: string, value: number): Figure =>
      figure({ bench: 'accuracy', case: `${BUNDLED_NAME} ${type} ${what}`, unit, values: [value] });
    const errors = outcome.logprobs.map((value, i) => Math.abs(value - exact!.logprobs[i]!));
    yield make('size', 'bits/weight', outcome.bitsPerWeight);
    yield make('right', `of ${rows.length}`, outcome.right);
    yield make('log-probability of labels', 'nats/token', mean(outcome.logprobs));
    yield make('log-probability error', 'nats/token', mean(errors));
  }
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;

async function evaluate(type: WeightType, rows: readonly Row[]): Promise<Outcome> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const file = join(folder, 'model.gguf');
    const bitsPerWeight = await convert(type, file);
    // Exact arithmetic: what is lost is lost by the type alone.
    await using llm = await LLM.load(file, { compute: 'f32' });
    const answers = await llm.generate(
      rows.map(({ prompt }) => prompt),
      { maxTokens: 64 },
    );
    const right = answers.filter(({ text }, i) => text.trim() === rows[i]!.expected).length;
    const scored = await llm.generate(
      rows.map(({ prompt, expected }) => `${prompt} ${expected}`),
      { maxTokens: 1, promptLogprobs: 0 },
    );
    const logprobs = scored.flatMap(({ promptLogprobs = [] }, i) =>
      promptLogprobs.slice(answers[i]!.promptTokenIds.length).map((position) => position?.logprob ?? 0),
    );
    return { right, logprobs, bitsPerWeight };
  } finally {
    await rm(folder, { recursive: true });
  }
}

/** @returns bits per weight of the matrices */
async function convert(type: WeightType, file: string): Promise<number> {
  await using lifetime = new Lifetime();
  const source = await openModelSource(BUNDLED_NAME, lifetime);
  const weights = recodedWeights(source.weights, (spec) => (storageTypeOf(spec, type, 'auto') === type ? type : 'f32'), file);
  const tensors = outputTensors(source.model, weights);
  await writeModel(file, { metadata: await source.metadata!(), tensors });
  const matrices = tensors.filter(({ dtype }) => dtype === type);
  const bytes = matrices.reduce((sum, { shape }) => sum + byteLengthOf(type, elementCount(shape)), 0);
  return (8 * bytes) / matrices.reduce((sum, { shape }) => sum + elementCount(shape), 0);
}
