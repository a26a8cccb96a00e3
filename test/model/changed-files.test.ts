/** Files of weights that change while a job reads them anew for every sweep. */
import { cp, readFile, rename, truncate, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type * as DeviceModule from '../../src/llm/device.ts';
import type { GenerationEvent } from '../../src/requests.ts';
import type { Device } from '../../src/tensor/device.ts';
import { FormatError } from '../../src/util/errors.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const opened: Device[] = [];
vi.mock('../../src/llm/device.ts', async (importOriginal) => {
  const { openDevice } = await importOriginal<typeof DeviceModule>();
  return {
    openDevice: async (...parameters: Parameters<typeof openDevice>) => {
      const device = await openDevice(...parameters);
      opened.push(device);
      return device;
    },
  };
});
afterEach(() => void opened.splice(0));

const usedBytes = (): number => opened.reduce((sum, device) => sum + device.memory().usedBytes, 0);

const REQUESTS = Array.from({ length: 6 }, (_, i) => ({
  prompt: [5 + i, 60, 700],
  params: { maxTokens: 12, ignoreEos: true, logprobs: 1 },
}));
const open = (folder: string, weights: number, overlap = true): Promise<LLM> =>
  LLM.load(folder, { threads: 1, gpuBatchSize: 2, numGpuBatches: 1, percent: [0, weights, 0, 100, 0, 100], overlap });

/** Runs all requests, and `change` after some sweeps. */
async function runAndChange(llm: LLM, sweeps: number, change: () => Promise<unknown>): Promise<GenerationEvent[]> {
  const events: GenerationEvent[] = [];
  let count = 0;
  for await (const event of llm.stream(REQUESTS)) {
    if (event.type === 'finished') events.push(event);
    if (event.type === 'sweep' && ++count === sweeps) await change();
  }
  return events;
}

/** Share of the weights in memory, in percent, and whether they are read ahead. */
type Case = readonly [weights: number, overlap: boolean];

async function withCopy(
  [weights, overlap]: Case,
  use: (llm: LLM, file: string, wanted: GenerationEvent[]) => Promise<void>,
): Promise<void> {
  await using temporary = await makeTemporaryFolder();
  const folder = path.join(temporary.path, 'model');
  await cp(BUNDLED_MODEL, folder, { recursive: true });
  await using whole = await open(BUNDLED_MODEL, 100);
  const wanted = await runAndChange(whole, 1, async () => {});
  await using llm = await open(folder, weights, overlap);
  await use(llm, path.join(folder, 'model.safetensors'), wanted);
}

describe.each([
  [0, true],
  [40, true],
  [0, false],
  [40, false],
] satisfies Case[])('while %i percent of the weights are in memory, overlap %s', (...where) => {
  it.each([1, 7])('a file that is cut off after sweep %i ends the job with its name and the tensor', async (sweeps) => {
    await withCopy(where, async (llm, file) => {
      const failed = await runAndChange(llm, sweeps, () => truncate(file, 1_000_000)).catch((cause: unknown) => cause);
      expect(failed).toBeInstanceOf(FormatError);
      expect(failed).toMatchObject({
        message: expect.stringMatching(/model\.safetensors: tensor "[\w.]+" cannot be read: .*ends at byte \d+, \d+ expected/) as unknown,
      });
      await expect(llm.generate([[5]])).rejects.toThrow('cannot be read');
    });
    expect(usedBytes()).toBe(0);
  });

  it('a file that another one replaces is read to the end of the job as it was', async () => {
    await withCopy(where, async (llm, file, wanted) => {
      const replace = async (): Promise<void> => {
        const bytes = await readFile(file);
        await writeFile(`${file}.new`, bytes.fill(1, bytes.length / 2));
        await rename(`${file}.new`, file);
      };
      expect(await runAndChange(llm, 2, replace)).toEqual(wanted);
    });
    expect(usedBytes()).toBe(0);
  });

  it('a job that is stopped in the middle leaves a model that answers rightly', async () => {
    await withCopy(where, async (llm, _file, wanted) => {
      for (const ms of [0, 1, 3, 7, 12]) {
        const controller = new AbortController();
        setTimeout(() => controller.abort(new Error('enough')), ms);
        const run = async (): Promise<void> => {
          for await (const _ of llm.stream(REQUESTS, { signal: controller.signal }));
        };
        await expect(run()).rejects.toThrow('enough');
      }
      expect(await runAndChange(llm, 1, async () => {})).toEqual(wanted);
    });
    expect(usedBytes()).toBe(0);
  });
});
