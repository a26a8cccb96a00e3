import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { expectGolden, fixtureFolder, type FixtureModel, goldenRequests, readFixtureJson, readGolden } from '../helpers/golden.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';

const folder = gpuLibraryFolder();
if (folder !== undefined) process.env['FLEXLLMGEN_GGML_DIR'] = folder;

/** In f32 throughout, ids and log-probabilities are held to the tolerance of the CPU; 8e-5 of its 3e-4 are used. */
const VULKAN: LoadOptions = { device: 'vulkan', compute: 'f32', kvType: 'f32', threads: 1 };

/** Some dense families. With all fixtures in one process it ended after eleven models, on Mesa's software driver, for a reason not found yet. */
const MODELS: readonly FixtureModel[] = ['opt', 'opt-350m-style', 'galactica', 'llama', 'qwen3'];

const CYCLES = 20;
/** The table of the bundled model has 14 tasks of 40 rows. Alone, because each number of rows has shaders of its own to compile. */
const TASK_ROWS = 40;

interface Row {
  readonly prompt: string;
  readonly greedy: readonly number[];
  readonly answer: string;
}

describe.skipIf(folder === undefined)('models on a Vulkan device', () => {
  it.each(MODELS)('%s gives the golden ids and log-probabilities', async (name) => {
    const golden = readGolden(name);
    await using llm = await LLM.load(fixtureFolder(name), { ...VULKAN, gpuBatchSize: 4, numGpuBatches: 2 });
    const results = await llm.generate(goldenRequests(golden));
    for (const [i, result] of results.entries()) expectGolden(result, golden, i);
    expect(results).toHaveLength(golden.prompts.length);
  });

  it('the bundled model answers a row of every task as the goldens do', async () => {
    const all = readFixtureJson('tidy-opt-5m/golden.json') as readonly Row[];
    const rows = all.filter((_, i) => i % TASK_ROWS === 0);
    await using llm = await LLM.load(undefined, { ...VULKAN, gpuBatchSize: 1 });
    const results = await llm.generate(rows.map(({ prompt }) => prompt));
    expect(results.map(({ text }) => text.trim())).toEqual(rows.map(({ answer }) => answer));
    expect(results.map(({ tokenIds }) => tokenIds)).toEqual(rows.map(({ greedy }) => greedy));
  });

  it('loads, answers and closes many times', async () => {
    const { prompts, greedy } = readGolden('opt');
    for (let cycle = 0; cycle < CYCLES; cycle++) {
      const at = cycle % prompts.length;
      await using llm = await LLM.load(fixtureFolder('opt'), VULKAN);
      const [result] = await llm.generate([{ prompt: prompts[at]!, params: { maxTokens: 3, ignoreEos: true } }]);
      expect(result!.tokenIds, `cycle ${cycle}`).toEqual(greedy[at]!.slice(0, 3));
    }
  });
});
