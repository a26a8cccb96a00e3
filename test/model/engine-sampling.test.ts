/** The engine on our kernels: rows that are sampled natively are those of the reference. */
import { describe, expect, it } from 'vitest';
import { rowSampler } from '../../src/sampling/native-rows.ts';
import { takeRows } from '../../src/sampling/rows.ts';
import { openNativeDevice } from '../../src/tensor/native-device.ts';
import { createReferenceDevice } from '../../src/tensor/reference-device.ts';
import { availableKernels } from '../helpers/kernels.ts';
import { makeRequest, openTiny, runAll, type PlainResult } from '../helpers/tiny-engine.ts';

const PARAMS = [
  {},
  { logprobs: 2, promptLogprobs: 3 },
  { temperature: 1, topP: 0.9, logprobs: 0 },
  { temperature: 2, topK: 5, minP: 0.05, repetitionPenalty: 1.4 },
  { presencePenalty: 1.5, frequencyPenalty: 0.5 },
  { temperature: 1, mask: (generated: readonly number[]) => Uint32Array.of(0xf0f0 << (generated.length % 8), 0) },
];
const REQUESTS = PARAMS.map((params, id) => makeRequest(id, { tokens: 4 + 3 * id, maxTokens: 20, ...params }));

describe.each(availableKernels())('an engine on kernels %s', (_isa, kernels) => {
  it('gives the tokens and log-probabilities that the reference gives', async () => {
    const run = async (natively: boolean, gpuBatchSize: number): Promise<Map<number, PlainResult>> => {
      await using device = openNativeDevice(kernels, 2);
      const sampler = natively ? rowSampler(device) : takeRows;
      await using tiny = openTiny({ device, takeRows: sampler, gpuBatchSize, batchTokens: 16 });
      return await runAll(tiny.engine, REQUESTS);
    };
    const wanted = await run(false, 4);
    expect(wanted.size).toBe(REQUESTS.length);
    expect(await run(true, 4)).toEqual(wanted);
    expect(await run(true, 1)).toEqual(wanted);
  });
});

it('devices without our kernels sample in TypeScript', async () => {
  await using device = createReferenceDevice();
  expect(rowSampler(device)).toBe(takeRows);
});
