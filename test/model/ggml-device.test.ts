import { expect, it } from 'vitest';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { type ConformanceTolerance, describeDeviceConformance } from '../helpers/device-conformance.ts';

/** f32 sums in another order; ggml rounds activations to bf16 before it multiplies with bf16 weights. */
const TOLERANCE: ConformanceTolerance = { exact: 1e-5, roundedWeights: 2e-2, f16Cache: 2e-3 };

describeDeviceConformance('ggml cpu, 1 thread', () => openGgmlDevice({ backend: 'cpu', threads: 1 }), TOLERANCE);
// One thread more than rows in most cases; sleeping threads, because spinning ones wait for each other on a busy machine.
describeDeviceConformance('ggml cpu, 3 threads', () => openGgmlDevice({ backend: 'cpu', threads: 3, poll: 0 }), TOLERANCE);

it('names what computes', async () => {
  await using device = await openGgmlDevice({ backend: 'cpu', threads: 1 });
  expect(device.name).toMatch(/^ggml cpu \w+, 1 threads$/);
  expect(device.tier).toBe('cpu');
});
