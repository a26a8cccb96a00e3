/** A whole model: prefill of a 512-token prompt and 64 rows that decode together, on our kernels and on ggml's, in processes that take turns. */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runChild } from './child.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { writeModelFile } from './model-file.ts';
import type { Rates } from './workload.ts';

/** 3.8 GB of q4_0. */
const SHAPE = 'opt-6.7b';
const TYPE = 'q4_0';

/** `models` are GGUF files or shapes; the default is a shape, written to a temporary file. */
export async function* model({ rounds, models = [SHAPE] }: BenchOptions): AsyncGenerator<Figure, void, void> {
  for (const name of models) yield* benchModel(name, rounds);
}

async function* benchModel(name: string, rounds: number): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const file = name.endsWith('.gguf') ? name : join(folder, 'model.gguf');
    if (file !== name) await writeModelFile({ shape: name, type: TYPE }, file);
    const [own, ggml]: [Rates[], Rates[]] = [[], []];
    for (let round = 0; round < rounds; round++) {
      own.push(await runChild<Rates>('model-child.ts', [file]));
      ggml.push(await runChild<Rates>('model-child.ts', [file], { FLEXLLMGEN_ISA: 'ggml' }));
    }
    const make = (what: string, unit: string, values: readonly number[]): Figure =>
      figure({ bench: 'model', case: `${name} ${what}`, unit, values });
    for (const what of ['prefill', 'decode'] as const) {
      yield make(
        `${what}, own kernels`,
        'tokens/s',
        own.map((each) => each[what]),
      );
      yield make(
        `${what}, ggml`,
        'tokens/s',
        ggml.map((each) => each[what]),
      );
      yield make(
        `${what}, own over ggml`,
        'x',
        own.map((each, i) => each[what] / ggml[i]![what]),
      );
    }
    yield make(
      'decode over prefill, own kernels',
      'x',
      own.map(({ prefill, decode }) => decode / prefill),
    );
  } finally {
    await rm(folder, { recursive: true });
  }
}
