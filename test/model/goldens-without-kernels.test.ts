/** Where there are no own kernels, ggml computes everything, and gives the same. A file of its own: kernels are chosen once a process. */
import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import { expectGolden, fixtureFolder, FIXTURE_MODELS, goldenRequests, readGolden } from '../helpers/golden.ts';

process.env['FLEXLLMGEN_ISA'] = 'ggml';

describe("on ggml's kernels", () => {
  it.each(FIXTURE_MODELS)('%s gives the golden ids and log-probabilities', async (name) => {
    const golden = readGolden(name);
    await using llm = await LLM.load(fixtureFolder(name), { compute: 'f32', threads: 1, gpuBatchSize: 3 });
    expect(llm.info.kernels).toMatch(/^ggml cpu /);
    const results = await llm.generate(goldenRequests(golden));
    expect(results).toHaveLength(golden.prompts.length);
    for (const [i, result] of results.entries()) expectGolden(result, golden, i);
  });
});
