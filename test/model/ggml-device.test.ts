import { expect, it } from 'vitest';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import type { Tensor } from '../../src/tensor/device.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import { type ConformanceTolerance } from '../helpers/bench.ts';
import { describeDeviceConformance } from '../helpers/device-conformance.ts';
import { Scope } from '../helpers/tensors.ts';

/** f32 sums in another order; ggml rounds activations to bf16 before it multiplies with bf16 weights. */
const TOLERANCE: ConformanceTolerance = { exact: 1e-5, roundedWeights: 2e-2, f16Cache: 2e-3 };

describeDeviceConformance('ggml cpu, 1 thread', () => openGgmlDevice({ backend: 'cpu', threads: 1 }), TOLERANCE);
// One thread more than rows in most cases.
describeDeviceConformance('ggml cpu, 3 threads', () => openGgmlDevice({ backend: 'cpu', threads: 3 }), TOLERANCE);

it('refuses attention with a window that the batch was not made for', async () => {
  await using device = await openGgmlDevice({ backend: 'cpu', threads: 1 });
  using scope = new Scope();
  const [x, keys, values] = [1, 128, 128].map((rows) => scope.add(device.allocate('x', 'f32', [rows, 8]))) as [Tensor, Tensor, Tensor];
  const graph = new GraphBuilder('attention', 1);
  const q = graph.load(x);
  graph.attention(q, q, q, { keys, values }, { heads: 1, kvHeads: 1, headDim: 8, scale: 1, window: 5 });
  const rows = [{ tokens: new Int32Array(1), start: 0, pages: [1] }];
  const batch = scope.add(device.createBatch(rows, { windows: [7] }));
  await batch.write(rows);
  await expect(device.run(scope.add(device.compile(graph.finish(), batch)))).rejects.toThrow(/window 5 .* windows 7/);
});

it('names what computes', async () => {
  await using device = await openGgmlDevice({ backend: 'cpu', threads: 1 });
  expect(device.name).toMatch(/^ggml cpu \w+, 1 threads$/);
  expect(device.tier).toBe('cpu');
});
