/**
 * The same GGUF file through llama.cpp's own `llama_decode` and through ours: a prompt of 512 tokens, and 64 rows that decode together, in
 * processes that take turns. Flash attention and an f16 cache on both sides; llama.cpp repacks the weights as it likes them best.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { openGgufSource } from '../src/llm/gguf-source.ts';
import { loadKernels } from '../src/native/kernels.ts';
import { elementCount, isQuantType, type WeightType } from '../src/tensor/dtype.ts';
import { UsageError } from '../src/util/errors.ts';
import { Lifetime } from '../src/util/lifetime.ts';
import { processorFacts } from '../src/util/machine.ts';
import { runChild, undisturbed } from './child.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { writeModelFile } from './model-file.ts';
import { type PeakKind, Peaks } from './peaks.ts';
import { hasLlama } from './peers/llama-cpp.ts';
import type { Rates } from './workload.ts';

/** 3.8 GB of q4_0. */
const SHAPE = 'llama-7b';
const TYPE: WeightType = 'q4_0';

interface Rounds {
  readonly own: Rates[];
  readonly theirs: Rates[];
  /** Operations a second, half of each right before and right behind an own run. */
  readonly peaks: number[];
  /** Runs that other programs disturbed. */
  discarded: number;
}

/** `models` are GGUF files or shapes; the default is a shape, written to a temporary file. @throws {UsageError} where llama.cpp cannot be called */
export async function* peers({ rounds, models = [SHAPE] }: BenchOptions): AsyncGenerator<Figure, void, void> {
  if (!hasLlama) throw new UsageError('peers: the layouts of llama.cpp are known for Linux on x86-64 only');
  for (const name of models) yield* comparePeers(name, rounds);
}

async function* comparePeers(name: string, count: number): AsyncGenerator<Figure, void, void> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-bench-'));
  try {
    const file = name.endsWith('.gguf') ? name : join(folder, 'model.gguf');
    if (file !== name) await writeModelFile({ shape: name, type: TYPE }, file);
    const work = await readWork(file);
    const rounds = await runRounds(file, count, work.kind);
    yield* figuresOf(name, rounds, work);
  } finally {
    await rm(folder, { recursive: true });
  }
}

async function runRounds(file: string, count: number, kind: PeakKind): Promise<Rounds> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('peers: there are no own kernels here; npm run build compiles them');
  const peak = (): number => {
    using peaks = new Peaks(kernels, processorFacts().threads);
    return peaks.operations(kind);
  };
  const rounds: Rounds = { own: [], theirs: [], peaks: [], discarded: 0 };
  for (let round = 0; round < count; round++) {
    const before = peak();
    const own = await undisturbed(() => runChild('model-child.ts', [file]));
    const behind = peak();
    rounds.discarded += own.discarded;
    if (!own.rates) continue;
    const theirs = await undisturbed(() => runChild('peers/llama-child.ts', [file]));
    rounds.discarded += theirs.discarded;
    if (!theirs.rates) continue;
    rounds.peaks.push((before + behind) / 2);
    rounds.own.push(own.rates);
    rounds.theirs.push(theirs.rates);
  }
  if (rounds.own.length === 0)
    throw new UsageError(`peers: other programs took the processors in all ${rounds.discarded} runs; use a quiet machine`);
  return rounds;
}

/** What one token costs, in operations; multiply and add count as two. Attention is small at these lengths. */
interface Work {
  readonly prefill: number;
  /** With the logits, which of a prompt only the last token has. */
  readonly decode: number;
  /** Of the instructions that multiply the weights. */
  readonly kind: PeakKind;
}

async function readWork(file: string): Promise<Work> {
  await using lifetime = new Lifetime();
  const { model, weights } = await openGgufSource(file, lifetime);
  const blocks = model.layers.slice(1, -1);
  const costOf = (layers: typeof blocks): number =>
    layers
      .flatMap((layer) => layer.weights)
      .filter(({ role }) => role !== 'vector')
      .reduce((sum, { shape, rowsPerToken }) => sum + (2 * elementCount(shape) * (rowsPerToken ?? shape[0]!)) / shape[0]!, 0);
  const first = blocks[0]!.weights.find(({ role }) => role === 'matrix')!;
  const prefill = costOf(blocks);
  const decode = prefill + costOf(model.layers.slice(-1));
  return { prefill, decode, kind: isQuantType(weights.find(first, blocks[0]!.name).dtype) ? 'integers' : 'floats' };
}

function* figuresOf(name: string, { own, theirs, peaks, discarded }: Rounds, work: Work): Generator<Figure, void, void> {
  const make = (what: string, unit: string, values: readonly number[], limit?: readonly number[]): Figure =>
    figure({ bench: 'peers', case: `${name} ${what}`, unit, values, ...(limit && { limit }) });
  yield make(
    `peak of ${work.kind}`,
    'Gop/s',
    peaks.map((peak) => peak / 1e9),
  );
  for (const what of ['prefill', 'decode'] as const) {
    const limits = peaks.map((peak) => peak / work[what]);
    const [a, b] = [own.map((each) => each[what]), theirs.map((each) => each[what])];
    yield make(`${what}, own`, 'tokens/s', a, limits);
    yield make(`${what}, llama.cpp`, 'tokens/s', b, limits);
    yield make(
      `${what}, own over llama.cpp`,
      'x',
      a.map((each, i) => each / b[i]!),
    );
  }
  const ratio = ({ prefill, decode }: Rates): number => decode / prefill;
  yield make('decode over prefill, own', 'x', own.map(ratio));
  yield make('decode over prefill, llama.cpp', 'x', theirs.map(ratio));
  yield make('processors busy, own', 'x', own.map(leastBusy));
  yield make('processors busy, llama.cpp', 'x', theirs.map(leastBusy));
  yield make('discarded runs', 'runs', [discarded]);
}

const leastBusy = ({ busy }: Rates): number => Math.min(busy.prefill, busy.decode);
