/** Attention over the cache: our kernels beside ggml's flash attention on the same numbers, and what the processor and its memory could do at best. */
import { loadKernels } from '../src/native/kernels.ts';
import { type Device, PAGE_POSITIONS, type Tensor } from '../src/tensor/device.ts';
import { KV_TYPES, type KvType } from '../src/tensor/dtype.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openNativeDevice } from '../src/tensor/native-device.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import {
  type AttentionCase,
  batchRows,
  cacheBytes,
  cacheContents,
  HEAD_DIM,
  HEADS,
  numbers,
  operationsOf,
  SCALE,
} from './attention-case.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { openFlash } from './ggml-flash.ts';
import { type PeakKind, Peaks } from './peaks.ts';
import { alternate } from './turns.ts';

const CASES: readonly AttentionCase[] = KV_TYPES.flatMap((type) =>
  [32, 8].flatMap((kvHeads): AttentionCase[] => [
    { name: 'prefill 512 x 512', type, kvHeads, rows: 1, start: 0, tokens: 512 },
    { name: 'decode 64 rows at 1024', type, kvHeads, rows: 64, start: 1023, tokens: 1 },
  ]),
).concat(
  [0, 1024].flatMap((start) =>
    [64, 128, 256, 512].map((tokens): AttentionCase => ({
      name: `chunk of ${tokens} at ${start}`,
      type: 'f16',
      kvHeads: 32,
      rows: 1,
      start,
      tokens,
    })),
  ),
);

const LONG: readonly KvType[] = ['f16', 'q8_0', 'g4'];
const SPARSE: readonly AttentionCase[] = LONG.flatMap((type) =>
  [32, 8].flatMap((kvHeads) =>
    [
      { rows: 64, positions: 1024 },
      { rows: 16, positions: 4096 },
    ].map(({ rows, positions }): AttentionCase => ({
      name: `decode ${rows} rows at ${positions}, sparsity 0.1`,
      type,
      kvHeads,
      rows,
      start: positions - 1,
      tokens: 1,
      attnSparsity: 0.1,
    })),
  ),
);

export async function* attention({ rounds, types = KV_TYPES }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('attention: there are no own kernels here; npm run build compiles them');
  const { threads } = processorFacts();
  await using own = openNativeDevice(kernels, threads);
  using peaks = new Peaks(kernels, threads);
  for (const one of CASES.filter(({ type }) => types.includes(type))) {
    const limits: number[] = [];
    const measure = (): unknown => limits.push(one.tokens > 1 ? peaks.operations(peakKind(one.type)) : peaks.memory());
    const ours = await makeOurs(own, one);
    using theirs = one.type === 'g4' ? undefined : openFlash(one, threads);
    const kinds = [[() => ours.run()], ...(theirs ? [[() => theirs.run()]] : [])];
    const [a, b] = await alternate(kinds, rounds, measure);
    ours[Symbol.dispose]();
    yield* figuresOf(one, limits, a!, b);
  }
  for (const one of SPARSE.filter(({ type }) => types.includes(type))) yield* sparse(own, one, rounds);
}

/** Beside the same rows with the values of all positions. */
async function* sparse(device: Device, one: AttentionCase, rounds: number): AsyncGenerator<Figure, void, void> {
  using few = await makeOurs(device, one);
  using all = await makeOurs(device, { ...one, attnSparsity: 1 });
  const [a = [], b = []] = await alternate([[() => few.run()], [() => all.run()]], rounds);
  const name = `${one.type} ${one.name}, ${HEADS}/${one.kvHeads} heads`;
  const make = (what: string, unit: string, values: readonly number[]): Figure => figure({ bench: 'attention', case: what, unit, values });
  const rate = (amount: number, seconds: readonly number[]): number[] => seconds.map((each) => amount / each);
  yield make(name, 'GB/s', rate(cacheBytes(one) / 1e9, a));
  yield make(name, 'rows/s', rate(one.rows, a));
  yield make(
    `${name}, over all values`,
    'x',
    a.map((each, i) => b[i]! / each),
  );
}

/** A case of many tokens is bound by operations, one of single tokens by memory; `limits` are so many a second. */
function* figuresOf(
  one: AttentionCase,
  limits: readonly number[],
  seconds: readonly number[],
  theirs: readonly number[] | undefined,
): Generator<Figure> {
  const name = `${one.type} ${one.name}, ${HEADS}/${one.kvHeads} heads`;
  const make = (what: string, unit: string, values: readonly number[], limit?: readonly number[]): Figure =>
    figure({ bench: 'attention', case: what, unit, values, ...(limit && { limit: limit.map((each) => each / 1e9) }) });
  const rate = (amount: number): number[] => seconds.map((each) => amount / each);
  if (one.tokens > 1) yield make(name, 'Gop/s', rate(operationsOf(one) / 1e9), limits);
  else {
    yield make(name, 'GB/s', rate(cacheBytes(one) / 1e9), limits);
    yield make(name, 'rows/s', rate(one.rows));
  }
  if (theirs)
    yield make(
      `${name}, over ggml`,
      'x',
      seconds.map((each, i) => theirs[i]! / each),
    );
}

const peakKind = (type: KvType): PeakKind => (type === 'bf16' ? 'bfloats' : 'floats');

async function makeOurs(device: Device, one: AttentionCase): Promise<{ run: () => Promise<void> } & Disposable> {
  const owned: Disposable[] = [];
  const use = <T extends Disposable>(item: T): T => {
    owned.unshift(item); // programs go before the tensors they read
    return item;
  };
  const rows = batchRows(one);
  const [count, columns] = [one.rows * one.tokens, one.kvHeads * HEAD_DIM];
  const positions = rows.length * rows[0]!.pages.length * PAGE_POSITIONS;
  const cache = {
    keys: use(device.allocate('k', one.type, [positions, columns])),
    values: use(device.allocate('v', one.type, [positions, columns])),
  };
  for (const tensor of [cache.keys, cache.values]) await device.write(tensor, 0, cacheContents(one.type, tensor.byteLength));
  const tensors: Tensor[] = [];
  for (const width of [HEADS * HEAD_DIM, columns, columns]) tensors.push(use(device.allocate('x', 'f32', [count, width])));
  for (const tensor of tensors) await device.write(tensor, 0, new Uint8Array(numbers(tensor.byteLength / 4).buffer));
  const batch = use(device.createBatch(rows));
  await batch.write(rows);
  const { attnSparsity = 1 } = one;
  const graph = new GraphBuilder('attention', count, { attnSparsity });
  const [q, k, v] = tensors.map((tensor) => graph.load(tensor));
  const heads = { heads: HEADS, kvHeads: one.kvHeads, headDim: HEAD_DIM, scale: SCALE };
  graph.attention(q!, k!, v!, cache, heads);
  const program = use(device.compile(graph.finish(), batch));
  return {
    run: () => device.run(program),
    [Symbol.dispose]: () => {
      for (const item of owned) item[Symbol.dispose]();
    },
  };
}
