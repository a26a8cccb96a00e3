/** Rows and tokens per second by block size: the bundled model on its table, and OPT-125m with random weights. */
import { readFile } from 'node:fs/promises';
import { parse } from 'csv-parse/sync';
import { publishedConfig } from '../src/models/opt-sizes.ts';
import { buildModel } from '../src/models/registry.ts';
import { BUNDLED_NAME, BUNDLED_TABLE } from '../src/util/bundled.ts';
import type { StorageType } from '../src/weights/storage-type.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { type MachineLimits, measureLimits } from './limits.ts';
import { generateAll, type Run } from './generate-all.ts';

const BLOCKS = [1, 16, 64, 256];
const DUMMY = 'opt-125m';
const PROMPT_TOKENS = 8;
const GENERATED_TOKENS = 64;
/** Rows of the table that a block of 1 works on; it would need minutes for all. */
const TABLE_ROWS = { 1: 56, other: 560 } as const;

export async function* throughput({
  rounds,
  models = [BUNDLED_NAME, DUMMY],
  blocks = BLOCKS,
  dtype = 'auto',
}: BenchOptions): AsyncGenerator<Figure, void, void> {
  const limits = await measureLimits();
  for (const model of models) {
    const runs = new Map<number, Run[]>(blocks.map((block) => [block, []]));
    // Rounds alternate between the block sizes, so that a slow minute of the machine does not hit one of them alone.
    for (let round = 0; round < rounds; round++) {
      for (const block of blocks)
        runs.get(block)!.push(model === BUNDLED_NAME ? await runTable(block, dtype) : await runDummy(model, block, dtype));
    }
    const label = `${model}${dtype === 'auto' ? (model === BUNDLED_NAME ? '' : ' f32') : ` ${dtype}`}`;
    // The limits are those of f32.
    const limitOf = (block: number): number | undefined =>
      dtype === 'auto' || dtype === 'f32' ? decodeLimit(model, block, limits) : undefined;
    for (const [block, list] of runs)
      yield* model === BUNDLED_NAME ? speedFigures(label, block, list) : dummyFigures(label, block, list, limitOf(block));
    if (model !== BUNDLED_NAME) yield* ratioFigure(label, runs);
  }
}

async function runTable(block: number, dtype: StorageType): Promise<Run> {
  const table: Record<string, string>[] = parse(await readFile(BUNDLED_TABLE), { columns: true });
  const step = block === 1 ? Math.ceil(table.length / TABLE_ROWS[1]) : 1;
  const rows = table.filter((_, i) => i % step === 0);
  const requests = rows.map(({ instruction, input }) => ({ prompt: `Task: ${instruction}\nInput: ${input}\nOutput:` }));
  return generateAll(BUNDLED_NAME, { gpuBatchSize: block, dtype }, requests);
}

async function runDummy(model: string, block: number, dtype: StorageType): Promise<Run> {
  const requests = Array.from({ length: block }, (_, row) => ({
    prompt: Array.from({ length: PROMPT_TOKENS }, (__, i) => 4 + ((row * 31 + i * 7) % 50_000)),
    params: { maxTokens: GENERATED_TOKENS, ignoreEos: true },
  }));
  return generateAll(model, { gpuBatchSize: block, dtype, dummy: 'f32' }, requests);
}

function* speedFigures(label: string, block: number, runs: readonly Run[]): Generator<Figure, void, void> {
  const make = (what: string, unit: string, value: (run: Run) => number): Figure =>
    figure({ bench: 'throughput', case: `${label} block ${block} ${what}`, unit, values: runs.map(value) });
  yield make('rows', 'rows/s', ({ rows, seconds }) => rows / seconds);
  yield make('generated', 'tokens/s', ({ stats, seconds }) => stats.tokens.generated / seconds);
  yield make('total', 'tokens/s', ({ stats, seconds }) => (stats.tokens.promptComputed + stats.tokens.generated) / seconds);
}

function* dummyFigures(label: string, block: number, runs: readonly Run[], limit?: number): Generator<Figure, void, void> {
  yield* speedFigures(label, block, runs);
  const values = runs.map(decodeRate);
  yield figure({ bench: 'throughput', case: `${label} block ${block} decode`, unit: 'tokens/s', values, ...(limit && { limit }) });
}

/** Tokens of sweeps without prompt tokens; the first token of each row comes from a prefill sweep. */
const decodeRate = ({ stats, rows }: Run): number => (stats.tokens.generated - rows) / stats.seconds.decode;

/** The lower of: all weights read once per sweep, all weights multiplied with every row. Attention is small at these lengths. */
function decodeLimit(model: string, block: number, limits: MachineLimits): number {
  const matrices = new Map(
    buildModel(publishedConfig(model)!, model)
      .layers.slice(1) // the embedding is looked up, not multiplied
      .flatMap(({ weights }) => weights)
      .filter(({ role }) => role !== 'vector')
      .map(({ name, shape }) => [name, shape[0]! * shape[1]!]),
  );
  const elements = [...matrices.values()].reduce((sum, n) => sum + n, 0);
  return Math.min((block * limits.bytesPerSecond) / (4 * elements), limits.flopsPerSecond / (2 * elements));
}

function* ratioFigure(label: string, runs: ReadonlyMap<number, readonly Run[]>): Generator<Figure, void, void> {
  const one = runs.get(1);
  const many = runs.get(64);
  if (!one || !many) return;
  const values = many.map((run, round) => decodeRate(run) / decodeRate(one[round]!));
  yield figure({ bench: 'throughput', case: `${label} decode, block 64 over block 1`, unit: 'x', values });
}
