import { describe, expect, it } from 'vitest';
import { type Kernels, openKernels } from '../../src/native/kernels.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import type { ConformanceTolerance } from '../helpers/bench.ts';
import { describeDeviceConformance } from '../helpers/device-conformance.ts';

/** f32 sums in another order; f16 and bf16 weights are widened exactly. */
const TOLERANCE: ConformanceTolerance = { exact: 1e-5, roundedWeights: 1e-5, f16Cache: 2e-3 };

const available = ['portable', 'avx2', 'vnni', 'vnni-bf16'].flatMap((isa): [string, Kernels][] => {
  const kernels = openKernels(isa);
  return kernels ? [[isa, kernels]] : [];
});

it('kernels are built', () => expect(available.map(([isa]) => isa)).toContain('portable'));

describe.each(available)('kernels %s', (isa, kernels) => {
  describeDeviceConformance(`${isa}, 1 thread`, async () => openNativeDevice(kernels, 1), TOLERANCE);
  // One thread more than rows in most cases.
  describeDeviceConformance(`${isa}, 3 threads`, async () => openNativeDevice(kernels, 3), TOLERANCE);
});
