import { afterEach, describe, expect, it, vi } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { fixtureFolder, readGolden } from '../helpers/golden.ts';
import { gpuLibraryFolder } from '../helpers/gpu-library.ts';

const folder = gpuLibraryFolder();
const golden = readGolden('opt');
const OPTIONS: LoadOptions = { kvType: 'f32', threads: 1 };

async function answer(options: LoadOptions): Promise<{ kernels: string; notices: string[]; ids: readonly number[] }> {
  const notices: string[] = [];
  await using llm = await LLM.load(fixtureFolder('opt'), { ...OPTIONS, ...options, onNotice: (notice) => notices.push(notice) });
  const [result] = await llm.generate([{ prompt: golden.prompts[0]!, params: { maxTokens: 3, ignoreEos: true } }]);
  return { kernels: llm.info.kernels, notices, ids: result!.tokenIds };
}

afterEach(() => {
  vi.unstubAllEnvs();
});

describe.skipIf(folder === undefined)('a GPU that is not asked for by its name', () => {
  it('is not used where it does not work, and the processor computes, with a notice', async () => {
    vi.stubEnv('FLEXLLMGEN_GGML_DIR', folder);
    vi.stubEnv('GGML_VK_VISIBLE_DEVICES', '9');
    // Another precision than that of the other test: each is tried once a process.
    const { kernels, notices, ids } = await answer({ device: 'auto', compute: 'auto' });
    expect(kernels).not.toMatch(/vulkan/);
    expect(notices.join()).toMatch(/^the processor computes, no GPU can be used: backend vulkan: does not work here: .*did not start/);
    expect(ids).toEqual(golden.greedy[0]!.slice(0, 3));
    await expect(answer({ device: 'gpu', compute: 'auto' })).rejects.toThrow(/^no GPU can be used: backend vulkan: does not work here/);
    await expect(answer({ device: 'vulkan', compute: 'auto' })).rejects.toThrow(/^backend vulkan: does not work here/);
  });

  it('is found where it works', async () => {
    vi.stubEnv('FLEXLLMGEN_GGML_DIR', folder);
    const { kernels, notices, ids } = await answer({ device: 'auto', compute: 'f32' });
    expect(kernels).toMatch(/^ggml vulkan, /);
    expect(notices).toEqual([]);
    expect(ids).toEqual(golden.greedy[0]!.slice(0, 3));
  });
});
