/** Products of one matrix: our kernels and ggml's on the same data, alternating, and what the processor and its memory could do at best at that time. */
import { type Kernels, loadKernels } from '../src/native/kernels.ts';
import type { Device } from '../src/tensor/device.ts';
import { byteLengthOf, isQuantType, type WeightType } from '../src/tensor/dtype.ts';
import { openGgmlDevice } from '../src/tensor/ggml-device.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openNativeDevice } from '../src/tensor/native-device.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { fill } from './fill.ts';
import { COLD_BYTES, type PeakKind, Peaks } from './peaks.ts';
import { alternate, type Works } from './turns.ts';

/** Those of `--type`. */
export const GEMM_TYPES: readonly WeightType[] = [
  'q4_0',
  'q8_0',
  'q4_k',
  'q4_1',
  'q5_0',
  'q5_1',
  'q5_k',
  'q6_k',
  'iq4_nl',
  'bf16',
  'f16',
  'f32',
];
type Shape = readonly [outputs: number, inputs: number];
const SHAPES: readonly Shape[] = [
  [4096, 4096],
  [11_008, 4096],
];
const MANY_ROWS = 512;
const ROWS = [MANY_ROWS, 64, 16, 4, 1];
/** So many are bound by reading the weights, or by what the kernels reach with many rows. */
const FEW_ROWS = 16;

export async function* gemm({ rounds, types = GEMM_TYPES }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('gemm: there are no own kernels here; npm run build compiles them');
  const { threads } = processorFacts();
  await using own = openNativeDevice(kernels, threads);
  await using ggml = await openGgmlDevice({ backend: 'cpu', threads });
  using peaks = new Peaks(kernels, threads);
  for (const type of types as readonly WeightType[])
    for (const shape of SHAPES) {
      using most = await makeProduct(own, type, shape, MANY_ROWS);
      for (const rows of ROWS) {
        using ours = await makeProduct(own, type, shape, rows);
        using theirs = await makeProduct(ggml, type, shape, rows);
        const products = [rows > FEW_ROWS ? [] : [most], ours, theirs].flat(); // ggml's threads would disturb who comes behind them
        const limits: number[] = [];
        const tileLimits: number[] = [];
        const kind = peakKind(type, kernels);
        const tiles = rows > FEW_ROWS && type !== 'q6_k' ? TILES[kind] : undefined;
        const measure = (): void => {
          limits.push(rows > FEW_ROWS ? peaks.operations(kind) : peaks.memory());
          if (tiles && kernels.isa === 'amx') tileLimits.push(peaks.operations(tiles));
        };
        const seconds = await alternate(
          products.map(({ works }) => works),
          rounds,
          measure,
        );
        const rates = seconds.map((each, i) => each.map((time) => products[i]!.operations / time));
        const intensity = ours.operations / (ours.count * byteLengthOf(type, shape[0] * shape[1]));
        const bounds = rows > FEW_ROWS ? limits : limits.map((memory, i) => Math.min(memory * intensity, rates[0]![i]!));
        const name = `${type} ${shape.join(' x ')}, ${rows} rows`;
        yield* figuresOf(name, rates.slice(-2), bounds);
        if (tileLimits.length > 0) yield rateFigure(`${name}, of tiles`, rates.at(-2)!, tileLimits);
      }
    }
}

/** Products of tiles instead of vectors, where a processor has them: a bound that is far, as sums of groups do not leave tiles so fast. Not for q6_k. */
const TILES: Readonly<Partial<Record<PeakKind, PeakKind>>> = { integers: 'byteTiles', bfloats: 'bfloatTiles' };

/** Vector instructions that could multiply a type fastest. */
function peakKind(type: WeightType, { isa }: Kernels): PeakKind {
  if (isQuantType(type)) return 'integers';
  return type === 'bf16' && (isa === 'vnni-bf16' || isa === 'amx') ? 'bfloats' : 'floats';
}

/** @param rates in operations a second */
function rateFigure(name: string, rates: readonly number[], bounds: readonly number[]): Figure {
  const giga = (values: readonly number[]): number[] => values.map((each) => each / 1e9);
  return figure({ bench: 'gemm', case: name, unit: 'Gop/s', values: giga(rates), limit: giga(bounds) });
}

/** `rates`: operations a second, ours and ggml's. */
function* figuresOf(name: string, [ours = [], theirs = []]: number[][], bounds: number[]): Generator<Figure, void, void> {
  yield rateFigure(name, ours, bounds);
  yield figure({ bench: 'gemm', case: `${name}, over ggml`, unit: 'x', values: ours.map((rate, i) => rate / theirs[i]!) });
}

interface Product extends Disposable {
  readonly works: Works;
  /** Products of one work. */
  readonly count: number;
  /** Of one work. */
  readonly operations: number;
}

/** Few rows are multiplied by many weights in one program, as in a layer: they come from memory, and the call is a small part. */
async function makeProduct(device: Device, type: WeightType, [outputs, inputs]: Shape, rows: number): Promise<Product> {
  const owned: Disposable[] = [];
  const use = <T extends Disposable>(item: T): T => {
    owned.unshift(item); // programs go before the tensors they read
    return item;
  };
  const input = use(device.allocate('x', 'f32', [rows, inputs]));
  const output = use(device.allocate('y', 'f32', [rows, outputs]));
  await fill(device, input);
  const count = rows > 64 ? 1 : Math.ceil(COLD_BYTES / byteLengthOf(type, outputs * inputs));
  const graph = new GraphBuilder('product', rows);
  const x = graph.load(input);
  for (let copy = 0; copy < count; copy++) {
    const tensor = use(device.allocate('w', type, [outputs, inputs]));
    await fill(device, tensor);
    await device.pack?.(tensor, 1);
    const segments = [{ from: 0, to: outputs, layout: 'gguf', home: 'cpu', tensor }] as const;
    graph.store(graph.linear(x, { name: 'w', shape: tensor.shape, segments }), output);
  }
  const program = use(device.compile(graph.finish()));
  return {
    works: [() => device.run(program)],
    count,
    operations: 2 * rows * outputs * inputs * count,
    [Symbol.dispose]: () => {
      for (const item of owned) item[Symbol.dispose]();
    },
  };
}
