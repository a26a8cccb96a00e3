import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import { findLibraryDirectory, listCpuVariants } from '../../src/native/libraries.ts';
import { openGgmlDevice } from '../../src/tensor/ggml-device.ts';
import { describeDeviceConformance } from '../helpers/device-conformance.ts';
import { expectGolden, fixtureFolder, goldenRequests, readGolden } from '../helpers/golden.ts';

/** Tests one CPU variant of ggml, if this processor runs it. One library a process, so each variant has a test file. */
export function describeCpuVariant(variant: string): void {
  const runs = listCpuVariants(findLibraryDirectory('cpu')).some(({ name, score }) => name === variant && score > 0);
  process.env['FLEXLLMGEN_GGML_CPU'] = variant;
  process.env['FLEXLLMGEN_ISA'] = 'ggml';

  describe.skipIf(!runs)(`ggml cpu ${variant}`, () => {
    it('gives the golden ids and log-probabilities', async () => {
      const golden = readGolden('opt');
      await using llm = await LLM.load(fixtureFolder('opt'), { compute: 'f32', gpuBatchSize: 4, threads: 1 });
      expect(llm.info.kernels).toBe(`ggml cpu ${variant}, 1 threads`);
      for (const [i, result] of (await llm.generate(goldenRequests(golden))).entries()) expectGolden(result, golden, i);
    });

    describeDeviceConformance('it', () => openGgmlDevice({ backend: 'cpu', threads: 1 }), {
      exact: 1e-5,
      roundedWeights: 2e-2,
      f16Cache: 2e-3,
    });
  });
}
