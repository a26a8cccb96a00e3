/** Seconds from the start of a process to the first token of a large GGUF file, against reading the file once; caches are emptied before both. */
import { mkdtemp, rm, stat } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { WeightType } from '../src/tensor/dtype.ts';
import { runChild } from './child.ts';
import { dropPageCache, readSeconds } from './disk.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { writeModelFile } from './model-file.ts';

/** 3.8 GB of q4_0. */
const SHAPE = 'opt-6.7b';
const TYPE: WeightType = 'q4_0';

interface Outcome {
  readonly seconds: number;
  readonly weightBytes: number;
  readonly residentBytes: number;
}

export async function* loading({ rounds, models = [SHAPE] }: BenchOptions): AsyncGenerator<Figure, void, void> {
  for (const shape of models) yield* loadShape(shape, rounds);
}

async function* loadShape(shape: string, rounds: number): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  const file = join(folder, 'model.gguf');
  try {
    await writeModelFile({ shape, type: TYPE }, file);
    const { size } = await stat(file);
    const reads: number[] = [];
    const freshReads: number[] = [];
    const loads: Outcome[] = [];
    for (let round = 0; round < rounds; round++) {
      dropPageCache();
      reads.push(await readSeconds(file));
      dropPageCache();
      freshReads.push(await runChild<number>('read-child.ts', [file, 'fresh']));
      dropPageCache();
      loads.push(await runChild<Outcome>('loading-child.ts', [file]));
    }
    const make = (what: string, unit: string, values: readonly number[]): Figure =>
      figure({ bench: 'loading', case: `${shape} ${TYPE} ${what}`, unit, values });
    yield make('size', 'MB', [size / 1e6]);
    yield make('read once', 's', reads);
    yield make('read once into fresh memory', 's', freshReads);
    yield make(
      'to the first token',
      's',
      loads.map(({ seconds }) => seconds),
    );
    yield make(
      'first token over reading once',
      'x',
      loads.map(({ seconds }, i) => seconds / reads[i]!),
    );
    yield make(
      'first token over reading into fresh memory',
      'x',
      loads.map(({ seconds }, i) => seconds / freshReads[i]!),
    );
    yield make(
      'resident memory over weights',
      'x',
      loads.map(({ residentBytes, weightBytes }) => residentBytes / weightBytes),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}
