/** Products of one matrix: our kernels and ggml's on the same data, alternating, and what the processor and its memory could do at best at that time. */
import { type Kernels, loadKernels } from '../src/native/kernels.ts';
import type { Device } from '../src/tensor/device.ts';
import { byteLengthOf, isQuantType, type WeightType } from '../src/tensor/dtype.ts';
import { openGgmlDevice } from '../src/tensor/ggml-device.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openNativeDevice } from '../src/tensor/native-device.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import { type BenchOptions, type Figure, figure, median } from './figure.ts';
import { fill } from './fill.ts';
import { COLD_BYTES, measureMemory, measurePeaks, type Peaks } from './peaks.ts';
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
const SHAPES = [
  [4096, 4096],
  [11_008, 4096],
] as const;
const ROWS = [512, 64, 16, 4, 1];
/** So many are bound by reading the weights, or by what the kernels reach with many rows. */
const FEW_ROWS = 16;

export async function* gemm({ rounds, types = GEMM_TYPES }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('gemm: there are no own kernels here; npm run build compiles them');
  const { threads } = processorFacts();
  await using own = openNativeDevice(kernels, threads);
  await using ggml = await openGgmlDevice({ backend: 'cpu', threads });
  for (const type of types as readonly WeightType[])
    for (const [outputs, inputs] of SHAPES) {
      let most: number | undefined; // own rate with many rows, which few rows cannot exceed
      for (const rows of ROWS) {
        using ours = await makeProduct(own, type, outputs, inputs, rows);
        using theirs = await makeProduct(ggml, type, outputs, inputs, rows);
        // The machine is shared: limits of another minute would be others.
        const limits = { ...measurePeaks(kernels, threads, rounds), memory: measureMemory(kernels, threads, rounds) };
        const times = await alternate(ours.works, theirs.works, rounds);
        const seconds = times.map((side) => side.map((each) => each / ours.count)) as [number[], number[]];
        const operations = 2 * rows * outputs * inputs;
        const read = (limits.memory / byteLengthOf(type, outputs * inputs)) * operations;
        const bound = rows > FEW_ROWS ? peakOf(type, limits, kernels) : Math.min(most ?? Infinity, read);
        yield* figuresOf(`${type} ${outputs} x ${inputs}, ${rows} rows`, operations, bound, seconds);
        most ??= operations / median(seconds[0]);
      }
    }
}

/** What products of a type could reach if nothing else were to do. */
function peakOf(type: WeightType, { integers, floats, bfloats }: Peaks, { isa }: Kernels): number {
  if (isQuantType(type)) return integers;
  return type === 'bf16' && isa.endsWith('bf16') ? bfloats : floats;
}

function* figuresOf(name: string, operations: number, bound: number, [ours, theirs]: [number[], number[]]): Generator<Figure, void, void> {
  const values = ours.map((seconds) => operations / seconds / 1e9);
  yield figure({ bench: 'gemm', case: name, unit: 'Gop/s', values, limit: bound / 1e9 });
  yield figure({ bench: 'gemm', case: `${name}, over ggml`, unit: 'x', values: ours.map((seconds, i) => theirs[i]! / seconds) });
}

interface Product extends Disposable {
  readonly works: Works;
  /** Products of one work. */
  readonly count: number;
}

/** Few rows are multiplied by many weights in one program, as in a layer: they come from memory, and the call is a small part. */
async function makeProduct(device: Device, type: WeightType, outputs: number, inputs: number, rows: number): Promise<Product> {
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
    [Symbol.dispose]: () => {
      for (const item of owned) item[Symbol.dispose]();
    },
  };
}
