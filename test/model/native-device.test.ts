import { describe, expect, it } from 'vitest';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import type { ConformanceTolerance } from '../helpers/bench.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { describeDeviceConformance } from '../helpers/device-conformance.ts';

/** f32 sums in another order; weights of types that are not exact meet activations in bf16: 2^-9 of each product, and up to 8 of them add up here. */
const TOLERANCE: ConformanceTolerance = { exact: 1e-5, roundedWeights: 1.5e-2, f16Cache: 2e-3 };

const available = availableKernels();

it('kernels are built', () => expect(available.map(([isa]) => isa)).toContain('portable'));

describe.each(available)('kernels %s', (isa, kernels) => {
  it('have the memory of a tensor given before it is written', async () => {
    await using device = openNativeDevice(kernels, 1);
    using tensor = device.allocate('large', 'f32', [16 << 10, 4 << 10]);
    const before = process.memoryUsage.rss();
    await device.claim!(tensor);
    expect(process.memoryUsage.rss() - before).toBeGreaterThan(0.9 * tensor.byteLength);
  });

  describeDeviceConformance(`${isa}, 1 thread`, async () => openNativeDevice(kernels, 1), TOLERANCE);
  // One thread more than rows in most cases.
  describeDeviceConformance(`${isa}, 3 threads`, async () => openNativeDevice(kernels, 3), TOLERANCE);
});
