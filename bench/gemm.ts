/** Products of one matrix: our kernels and ggml's on the same data, and what the processor and its memory could do at best, alternating in one run. */
import { loadKernels } from '../src/native/kernels.ts';
import type { Device, Tensor } from '../src/tensor/device.ts';
import { byteLengthOf, isQuantType, type WeightType } from '../src/tensor/dtype.ts';
import { openGgmlDevice } from '../src/tensor/ggml-device.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openNativeDevice } from '../src/tensor/native-device.ts';
import { UsageError } from '../src/util/errors.ts';
import { processorFacts } from '../src/util/machine.ts';
import { type BenchOptions, type Figure, figure } from './figure.ts';
import { COLD_BYTES, measureMemory, measurePeaks } from './peaks.ts';
import { alternate, type Works } from './turns.ts';

const TYPES: readonly WeightType[] = ['q4_0', 'q8_0', 'q4_k', 'q4_1', 'q5_0', 'q5_1', 'q5_k', 'q6_k', 'iq4_nl', 'bf16', 'f16', 'f32'];
const SHAPES = [
  [4096, 4096],
  [11_008, 4096],
] as const;
const ROWS = [1, 4, 16, 64, 512];

export async function* gemm({ rounds }: BenchOptions): AsyncGenerator<Figure, void, void> {
  const kernels = loadKernels();
  if (!kernels) throw new UsageError('gemm: there are no own kernels here; npm run build compiles them');
  const { threads } = processorFacts();
  const limits = { ...measurePeaks(kernels, threads, rounds), memory: measureMemory(kernels, threads, rounds) };
  const make = (what: string, unit: string, values: readonly number[], limit?: number): Figure =>
    figure({ bench: 'gemm', case: what, unit, values, ...(limit !== undefined && { limit }) });
  yield make(`peak of integers, ${kernels.isa}`, 'Gop/s', [limits.integers / 1e9]);
  yield make(`peak of f32, ${kernels.isa}`, 'Gop/s', [limits.floats / 1e9]);
  yield make('memory read', 'GB/s', [limits.memory / 1e9]);
  await using own = openNativeDevice(kernels, threads);
  await using ggml = await openGgmlDevice({ backend: 'cpu', threads });
  for (const type of TYPES)
    for (const [outputs, inputs] of SHAPES)
      for (const rows of ROWS) {
        const operations = 2 * rows * outputs * inputs;
        using ours = await makeProduct(own, type, outputs, inputs, rows);
        using theirs = await makeProduct(ggml, type, outputs, inputs, rows);
        const [a, b] = await alternate(ours.works, theirs.works, rounds);
        const most = isQuantType(type) ? limits.integers : limits.floats;
        const bound = Math.min(most, (limits.memory / byteLengthOf(type, outputs * inputs)) * operations);
        const name = `${type} ${outputs} x ${inputs}, ${rows} rows`;
        const rate = (seconds: readonly number[]): number[] => seconds.map((each) => operations / each / 1e9);
        yield make(name, 'Gop/s', rate(a), bound / 1e9);
        yield make(
          `${name}, over ggml`,
          'x',
          a.map((each, i) => b[i]! / each),
        );
      }
}

interface Product extends Disposable {
  /** The same product with other copies of the weights. */
  readonly works: Works;
}

async function makeProduct(device: Device, type: WeightType, outputs: number, inputs: number, rows: number): Promise<Product> {
  const owned: Disposable[] = [];
  const use = <T extends Disposable>(item: T): T => {
    owned.unshift(item); // programs go before the tensors they read
    return item;
  };
  const input = use(device.allocate('x', 'f32', [rows, inputs]));
  const output = use(device.allocate('y', 'f32', [rows, outputs]));
  await fill(device, input);
  const copies = rows > 64 ? 1 : Math.ceil(COLD_BYTES / byteLengthOf(type, outputs * inputs));
  const works: (() => Promise<void>)[] = [];
  for (let copy = 0; copy < copies; copy++) {
    const tensor = use(device.allocate('w', type, [outputs, inputs]));
    await fill(device, tensor);
    await device.pack?.(tensor, 1);
    const graph = new GraphBuilder('product', rows);
    const segments = [{ from: 0, to: outputs, layout: 'gguf', home: 'cpu', tensor }] as const;
    graph.store(graph.linear(graph.load(input), { name: 'w', shape: tensor.shape, segments }), output);
    const program = use(device.compile(graph.finish()));
    works.push(() => device.run(program));
  }
  return {
    works,
    [Symbol.dispose]: () => {
      for (const item of owned) item[Symbol.dispose]();
    },
  };
}

/** Numbers of every type that are neither denormal nor large: bytes of blocks are quants and, as halves, about 0.01. */
async function fill(device: Device, tensor: Tensor): Promise<void> {
  const bytes = new Uint8Array(tensor.byteLength);
  if (tensor.dtype === 'f32') new Float32Array(bytes.buffer).forEach((_, i, all) => (all[i] = Math.sin(i) / 4));
  else new Uint16Array(bytes.buffer).fill(tensor.dtype === 'bf16' ? 0x3c23 : 0x211f);
  await device.write(tensor, 0, bytes);
}
