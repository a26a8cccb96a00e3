/** Bytes of input per second that a conversion takes, each in a process of its own, against a plain copy of the same file. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChild } from './child.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { copySeconds, dropPageCache } from './disk.ts';
import { writeMadeModel } from './made-model.ts';

/** 5.3 GB of f16. */
const SHAPE = 'opt-2.7b';
const TYPES = ['f16', 'q8_0', 'q4_0'] as const;

interface Outcome {
  readonly seconds: number;
  readonly peakBytes: number;
}

export async function* conversion({ rounds, models = [SHAPE] }: BenchOptions): AsyncGenerator<Figure, void, void> {
  for (const shape of models) yield* convertShape(shape, rounds);
}

async function* convertShape(shape: string, rounds: number): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const bytes = await writeMadeModel(shape, folder);
    const runs = new Map<string, Outcome[]>(TYPES.map((type) => [type, []]));
    const copies: number[] = [];
    for (let round = 0; round < rounds; round++) {
      dropPageCache();
      copies.push(bytes / (await copySeconds(join(folder, 'model.safetensors'), join(folder, 'copy'))));
      await rm(join(folder, 'copy'));
      for (const type of TYPES) runs.get(type)!.push(await convertOnce(folder, type));
    }
    const make = (what: string, unit: string, values: readonly number[], limit?: number): Figure =>
      figure({ bench: 'conversion', case: `${shape} f16 ${what}`, unit, values, ...(limit !== undefined && { limit }) });
    const copy = make(
      'copied',
      'MB/s',
      copies.map((rate) => rate / 1e6),
    );
    yield copy;
    for (const [type, list] of runs) {
      yield make(
        `to ${type}`,
        'MB/s',
        list.map(({ seconds }) => bytes / 1e6 / seconds),
        copy.value,
      );
      yield make(
        `to ${type}, peak memory`,
        'MB',
        list.map(({ peakBytes }) => peakBytes / 1e6),
      );
    }
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function convertOnce(folder: string, type: string): Promise<Outcome> {
  dropPageCache();
  const output = join(folder, `${type}.gguf`);
  const outcome = await runChild<Outcome>('conversion-child.ts', [folder, type, output]);
  await rm(output);
  return outcome;
}
