/** The process of `probeGpu`: multiplies two small matrices on the GPUs of a backend. */
import type { Weight } from '../tensor/device.ts';
import { countGgmlDevices, openGgmlDevice } from '../tensor/ggml-device.ts';
import { GraphBuilder } from '../tensor/graph.ts';
import { FURTHER_GPU } from './gpu-probe.ts';

const [backend = '', exact, gpus] = process.argv.slice(2);
/** Enough for kernels of matrices; small whole numbers are exact in any arithmetic. */
const SIZE = 64;

await multiplyOnAll().catch((error: unknown) => {
  process.stderr.write(`${error instanceof Error ? error.message : String(error)}\n`);
  process.exitCode = 1;
});

async function multiplyOnAll(): Promise<void> {
  const count = Math.min(countGgmlDevices(backend, exact === 'true'), Number(gpus));
  for (let index = 0; index < count; index++) {
    if (index > 0) process.stderr.write(`${FURTHER_GPU}\n`);
    await multiply(index);
  }
}

async function multiply(index: number): Promise<void> {
  await using device = await openGgmlDevice({ backend, threads: 1, exact: exact === 'true', index });
  const allocate = (name: string) => device.allocate(name, 'f32', [SIZE, SIZE]);
  using x = allocate('x');
  using w = allocate('w');
  using out = allocate('out');
  const numbers = Float32Array.from({ length: SIZE * SIZE }, (_, i) => (i % 7) - 3);
  const weight: Weight = {
    name: 'w',
    shape: [SIZE, SIZE],
    segments: [{ from: 0, to: SIZE, layout: 'gguf', home: device.tier, tensor: w }],
  };
  for (const tensor of [x, w]) await device.write(tensor, 0, new Uint8Array(numbers.buffer));
  const graph = new GraphBuilder('probe', SIZE);
  graph.store(graph.linear(graph.load(x), weight), out);
  using program = device.compile(graph.finish());
  await device.run(program);
  const got = new Float32Array(SIZE * SIZE);
  await device.read(out, 0, new Uint8Array(got.buffer));
  for (const [at, value] of got.entries()) {
    const wanted = sumOfProducts(numbers, Math.floor(at / SIZE), at % SIZE);
    if (value !== wanted) throw new Error(`${device.name}: wrong result: ${wanted} expected, got ${value}`);
  }
}

function sumOfProducts(numbers: Float32Array, row: number, column: number): number {
  let sum = 0;
  for (let k = 0; k < SIZE; k++) sum += numbers[row * SIZE + k]! * numbers[column * SIZE + k]!;
  return sum;
}
