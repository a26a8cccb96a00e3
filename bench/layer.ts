/** One layer of Llama-7B in q4_0 for 512 tokens of a prompt: its products, its attention, and all the rest of it. */
import { loadKernels } from '../src/native/kernels.ts';
import { type Batch, type Device, type KvLayer, PAGE_POSITIONS, type Program, type Tensor, type Weight } from '../src/tensor/device.ts';
import type { DType } from '../src/tensor/dtype.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openNativeDevice } from '../src/tensor/native-device.ts';
import type { Value } from '../src/tensor/op-graph.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { fill } from './fill.ts';

const TOKENS = 512;
const COLUMNS = 4096;
const INNER = 11_008;
const HEADS = { heads: 32, kvHeads: 32, headDim: 128, scale: 1 / Math.sqrt(128) };

type Programs = Readonly<Record<'whole layer' | 'products' | 'attention' | 'rest', Program>>;

export async function* layer({ rounds }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('layer: there are no own kernels here; npm run build compiles them');
  await using device = openNativeDevice(kernels, processorFacts().threads);
  using owned = new DisposableList();
  const programs = compilePrograms(device, owned, await makeParts(device, owned));
  const milliseconds = await timeInTurns(device, programs, rounds);
  for (const [name, values] of Object.entries(milliseconds))
    yield figure({ bench: 'layer', case: `${name}, ${TOKENS} tokens`, unit: 'ms', values });
  const shares = milliseconds.rest.map((each, i) => (100 * each) / milliseconds['whole layer'][i]!);
  yield figure({ bench: 'layer', case: 'rest over whole layer', unit: '%', values: shares });
}

async function timeInTurns(device: Device, programs: Programs, rounds: number): Promise<Record<keyof Programs, number[]>> {
  const times: Record<keyof Programs, number[]> = { 'whole layer': [], products: [], attention: [], rest: [] };
  for (let round = 0; round <= rounds; round++)
    for (const name of Object.keys(times) as (keyof Programs)[]) {
      const began = performance.now();
      await device.run(programs[name]);
      if (round > 0) times[name].push(performance.now() - began); // the first round warms up
    }
  return times;
}

/** Disposes the newest first, so that programs go before the tensors they read. */
class DisposableList implements Disposable {
  readonly #items: Disposable[] = [];

  use<T extends Disposable>(item: T): T {
    this.#items.unshift(item);
    return item;
  }

  [Symbol.dispose](): void {
    for (const item of this.#items) item[Symbol.dispose]();
  }
}

interface Parts {
  readonly x: Tensor;
  readonly y: Tensor;
  /** q, k, v, o */
  readonly square: readonly Weight[];
  readonly gate: Weight;
  readonly up: Weight;
  readonly down: Weight;
  readonly norm: Weight;
  readonly divisors: Weight;
  readonly cache: KvLayer;
  readonly batch: Batch;
}

async function makeParts(device: Device, owned: DisposableList): Promise<Parts> {
  const tensor = async (dtype: DType, ...shape: number[]): Promise<Tensor> => {
    const made = owned.use(device.allocate('x', dtype, shape));
    await fill(device, made);
    return made;
  };
  const weight = async (dtype: DType, ...shape: number[]): Promise<Weight> => {
    const made = await tensor(dtype, ...shape);
    if (shape.length === 2) await device.pack?.(made, 1);
    return { name: 'w', shape, segments: [{ from: 0, to: shape[0]!, layout: 'gguf', home: 'cpu', tensor: made }] };
  };
  const rows = [{ tokens: new Int32Array(TOKENS), start: 0, pages: Array.from({ length: TOKENS / PAGE_POSITIONS }, (_, i) => i) }];
  const batch = owned.use(device.createBatch(rows));
  await batch.write(rows);
  return {
    x: await tensor('f32', TOKENS, COLUMNS),
    y: await tensor('f32', TOKENS, COLUMNS),
    square: await Promise.all(Array.from({ length: 4 }, () => weight('q4_0', COLUMNS, COLUMNS))),
    gate: await weight('q4_0', INNER, COLUMNS),
    up: await weight('q4_0', INNER, COLUMNS),
    down: await weight('q4_0', COLUMNS, INNER),
    norm: await weight('f32', COLUMNS),
    divisors: await weight('f32', HEADS.headDim / 2),
    cache: { keys: await tensor('f16', TOKENS, COLUMNS), values: await tensor('f16', TOKENS, COLUMNS) },
    batch,
  };
}

function compilePrograms(device: Device, owned: DisposableList, parts: Parts): Programs {
  const { x, y, square, gate, up, down, cache, batch } = parts;
  const compile = (build: (graph: GraphBuilder, input: Value) => void): Program => {
    const graph = new GraphBuilder('layer', TOKENS);
    build(graph, graph.load(x));
    return owned.use(device.compile(graph.finish(), batch));
  };
  const norm = (graph: GraphBuilder, value: Value): Value => graph.norm(value, { kind: 'rms', weight: parts.norm, epsilon: 1e-5 });
  const rope = (graph: GraphBuilder, value: Value): Value => {
    const rotaryDims = HEADS.headDim;
    return graph.rope(value, { headDim: rotaryDims, rotaryDims, style: 'half', divisors: parts.divisors, factor: 1 });
  };
  const mlp = (graph: GraphBuilder, value: Value): Value =>
    graph.linear(value, up, { factors: graph.linear(value, gate, { activation: 'silu' }) });
  return {
    'whole layer': compile((graph, input) => {
      const normed = norm(graph, input);
      const [q, k, v] = square.map((each) => graph.linear(normed, each));
      const attended = graph.attention(rope(graph, q!), rope(graph, k!), v!, cache, HEADS);
      const middle = graph.linear(attended, square[3]!, { residual: input });
      graph.store(graph.linear(mlp(graph, norm(graph, middle)), down, { residual: middle }), y);
    }),
    products: compile((graph, input) => {
      for (const each of square) graph.store(graph.linear(input, each, { residual: input }), y);
      graph.store(graph.linear(mlp(graph, input), down, { residual: input }), y);
    }),
    attention: compile((graph, input) => graph.store(graph.attention(input, input, input, cache, HEADS), y)),
    rest: compile((graph, input) => {
      for (const each of [norm, norm, rope, rope]) graph.store(each(graph, input), y);
    }),
  };
}
