/** Prompts that begin alike, with and without computing their beginning once: the bundled table, and rows with a long common beginning. */
import { readFile } from 'node:fs/promises';
import { parse } from 'csv-parse/sync';
import type { GenerationRequest } from '../src/index.ts';
import { BUNDLED_NAME, BUNDLED_TABLE } from '../src/util/bundled.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { generateAll, type Run } from './generate-all.ts';

const DUMMY = 'opt-125m';
const ROWS = 200;
const COMMON_TOKENS = 512;
const OWN_TOKENS = 16;
const GENERATED_TOKENS = 16;

export async function* prefix({ rounds, models = [BUNDLED_NAME, DUMMY] }: BenchOptions): AsyncGenerator<Figure, void, void> {
  for (const model of models) {
    const requests = model === BUNDLED_NAME ? await tableRequests() : dummyRequests();
    const [shared, full]: [Run[], Run[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      for (const [runs, sharePrefixes] of [
        [shared, true],
        [full, false],
      ] as const)
        runs.push(await generateAll(model, { sharePrefixes, ...(model !== BUNDLED_NAME && { dummy: true }) }, requests));
    }
    const make = (what: string, unit: string, values: readonly number[]): Figure =>
      figure({ bench: 'prefix', case: `${model}, ${requests.length} rows, ${what}`, unit, values });
    for (const [how, runs] of [
      ['shared', shared],
      ['not shared', full],
    ] as const) {
      const computed = runs.map(({ stats }) => stats.tokens.promptComputed);
      yield make(`${how}: prompt computed`, 'tokens', computed);
      const seconds = runs.map((run) => run.seconds);
      yield make(`${how}: time`, 's', seconds);
    }
    const ratios = full.map((run, round) => run.seconds / shared[round]!.seconds);
    yield make('not shared over shared', 'x', ratios);
  }
}

async function tableRequests(): Promise<GenerationRequest[]> {
  const table: Record<string, string>[] = parse(await readFile(BUNDLED_TABLE), { columns: true });
  return table.map(({ instruction, input }) => ({ prompt: `Task: ${instruction}\nInput: ${input}\nOutput:` }));
}

function dummyRequests(): GenerationRequest[] {
  const common = Array.from({ length: COMMON_TOKENS }, (_, i) => 4 + ((i * 7) % 50_000));
  return Array.from({ length: ROWS }, (_, row) => ({
    prompt: [...common, ...Array.from({ length: OWN_TOKENS }, (__, i) => 4 + ((row * 31 + i * 7) % 50_000))],
    params: { maxTokens: GENERATED_TOKENS, ignoreEos: true },
  }));
}
