/** The truth is the same engine on one device: the reference computes both parts, so not a bit may differ. */
import { describe, expect, it } from 'vitest';
import { loadKernels } from '../../../src/native/kernels.ts';
import type { Device } from '../../../src/tensor/device.ts';
import { openNativeDevice } from '../../../src/tensor/native-device.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import { collect, makeRequest, openTiny, resultsOf, tinyModel, type TinyOptions } from '../../helpers/tiny-engine.ts';

const REQUESTS = [3, 70, 1, 20, 64, 5].map((tokens, id) => makeRequest(id, { tokens, maxTokens: 6 + id }));

async function answers(options: TinyOptions) {
  const lanes = new LaneLog({ keepEvents: 10_000 });
  await using tiny = openTiny({ ...options, lanes });
  const results = resultsOf(await collect(tiny.engine.run(REQUESTS)));
  return { ids: [...results].map(([id, { generated }]) => [id, generated]), lanes };
}

/** Names of runs of the devices, in the order in which they begin and end. */
function watched(device: Device, name: string, log: string[], milliseconds: number): Device {
  const run: Device['run'] = async (program) => {
    log.push(`${name} begins`);
    await new Promise((resolve) => setTimeout(resolve, milliseconds));
    await device.run(program);
    log.push(`${name} ends`);
  };
  return new Proxy(device, {
    get(target, key) {
      if (key === 'run') return run;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? (value.bind(target) as unknown) : value;
    },
  });
}

describe('attention beside the device', () => {
  it.each([
    ['one micro-batch', { gpuBatchSize: 6 }],
    ['two', { gpuBatchSize: 3, numGpuBatches: 2 }],
    ['three with chunks of prompts', { gpuBatchSize: 2, numGpuBatches: 3, batchTokens: 16, sweepChunks: 2 }],
  ])('changes no token with %s', async (_what, options) => {
    const { ids } = await answers(options);
    const beside = await answers({ ...options, attending: createReferenceDevice() });
    expect(beside.ids).toEqual(ids);
  });

  it('moves queries, keys, values and results of each token, and nothing of the cache', async () => {
    const { lanes } = await answers({ gpuBatchSize: 6, attending: createReferenceDevice() });
    const model = tinyModel();
    const attending = model.layers.filter(({ attends }) => attends).length;
    const tokens = REQUESTS.reduce((sum, request) => sum + request.tokens.length + request.sampling.maxTokens - 1, 0); // the last token is not computed
    const totals = new Map(lanes.totals().map(({ lane, bytes }) => [lane, bytes]));
    expect(totals.get('download')).toBe(4 * tokens * attending * (model.heads + 2 * model.kvHeads) * model.headDim);
    expect(lanes.totals().find(({ lane }) => lane === 'compute')!.pieces).toBeGreaterThan(30);
    expect(totals.get('upload')).toBe(4 * tokens * attending * model.heads * model.headDim);
  });

  it('computes one micro-batch while it attends for another one', async () => {
    const log: string[] = [];
    await using near = createReferenceDevice();
    await using far = createReferenceDevice();
    const options = {
      gpuBatchSize: 3,
      numGpuBatches: 2,
      device: watched(near, 'device', log, 2),
      attending: watched(far, 'attention', log, 2),
    };
    await answers(options);
    // Rows leave one micro-batch, then the other one, and still every layer of every sweep overlaps.
    const overlapping = log.filter((each, i) => each === 'device begins' && log[i - 1] === 'attention begins').length;
    const sweeps = Math.max(...REQUESTS.map(({ sampling }) => sampling.maxTokens));
    const attending = tinyModel().layers.filter((layer) => layer.attends).length;
    expect(overlapping).toBeGreaterThanOrEqual((sweeps - 2) * attending);
    // Each of them does one thing at a time.
    for (const name of ['device', 'attention']) {
      const own = log.filter((each) => each.startsWith(name));
      expect(own.every((each, i) => each.endsWith(i % 2 === 0 ? 'begins' : 'ends'))).toBe(true);
    }
  });

  it('ends with the error of either, and frees what it had', async () => {
    for (const side of ['device', 'attending'] as const) {
      let runs = 0;
      const failing = new Proxy(createReferenceDevice(), {
        get(target, key) {
          if (key === 'run' && runs++ > 7) return () => Promise.reject(new Error(`the ${side} is gone`));
          const value: unknown = Reflect.get(target, key, target);
          return typeof value === 'function' ? (value.bind(target) as unknown) : value;
        },
      });
      const device = side === 'device' ? failing : createReferenceDevice();
      const attending = side === 'attending' ? failing : createReferenceDevice();
      await expect(answers({ gpuBatchSize: 3, numGpuBatches: 2, device, attending })).rejects.toThrow(`the ${side} is gone`);
      expect([device.memory().usedBytes, attending.memory().usedBytes]).toEqual([0, 0]);
    }
  });
});

const kernels = loadKernels();

describe.skipIf(!kernels)('attention of our kernels beside the reference', () => {
  it('gives the same tokens', async () => {
    const { ids } = await answers({ gpuBatchSize: 3, numGpuBatches: 2 });
    await using attending = openNativeDevice(kernels!, 2);
    expect((await answers({ gpuBatchSize: 3, numGpuBatches: 2, attending })).ids).toEqual(ids);
  });
});
