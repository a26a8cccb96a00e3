/** What the machine can do at best, measured with single large products: the bounds that a model's speed is compared with. */
import type { Device, Program, Tensor, Weight } from '../src/tensor/device.ts';
import { GraphBuilder } from '../src/tensor/graph.ts';
import { openDevice } from '../src/llm/device.ts';
import { processorFacts } from '../src/util/machine.ts';
import { median } from './figure.ts';

export interface MachineLimits {
  /** Operations (multiply and add count as two) per second of a large f32 product. */
  readonly flopsPerSecond: number;
  /** Bytes of weights per second that a product with one row reads. */
  readonly bytesPerSecond: number;
}

/** Large enough to leave every cache. */
const ROWS = 16_384;
const COLUMNS = 4096;
const MANY_TOKENS = 256;
const RUNS = 5;

export async function measureLimits(): Promise<MachineLimits> {
  await using device = await openDevice('cpu', { threads: processorFacts().threads, exact: false });
  using tensor = device.allocate('weights', 'f32', [ROWS, COLUMNS]);
  await fill(device, tensor);
  await device.pack?.(tensor, 1);
  const weight: Weight = {
    name: 'weights',
    shape: tensor.shape,
    segments: [{ from: 0, to: ROWS, layout: 'gguf', home: 'cpu', tensor }],
  };
  const many = await time(device, weight, MANY_TOKENS);
  const one = await time(device, weight, 1);
  return { flopsPerSecond: (2 * ROWS * COLUMNS * MANY_TOKENS) / many, bytesPerSecond: tensor.byteLength / one };
}

/** Zeros would do for today's processors, but denormals and compression must not flatter. */
async function fill(device: Device, tensor: Tensor): Promise<void> {
  const chunk = Float32Array.from({ length: 1 << 16 }, (_, i) => Math.sin(i) * 0.02);
  const bytes = new Uint8Array(chunk.buffer);
  for (let at = 0; at < tensor.byteLength; at += bytes.byteLength)
    await device.write(tensor, at, bytes.subarray(0, tensor.byteLength - at));
}

async function time(device: Device, weight: Weight, tokens: number): Promise<number> {
  using input = device.allocate('input', 'f32', [tokens, COLUMNS]);
  using output = device.allocate('output', 'f32', [tokens, ROWS]);
  await fill(device, input);
  using program = product(device, weight, input, output);
  await device.run(program);
  const seconds: number[] = [];
  for (let run = 0; run < RUNS; run++) {
    const started = performance.now();
    await device.run(program);
    seconds.push((performance.now() - started) / 1000);
  }
  return median(seconds);
}

function product(device: Device, weight: Weight, input: Tensor, output: Tensor): Program {
  const graph = new GraphBuilder('product', input.shape[0]!);
  graph.store(graph.linear(graph.load(input), weight), output);
  return device.compile(graph.finish());
}
