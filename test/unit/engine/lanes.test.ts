import { expect, it } from 'vitest';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import { collect, makeRequest, openTiny, runAll } from '../../helpers/tiny-engine.ts';

it('each layer run of a micro-batch is a piece of computing', async () => {
  const lanes = new LaneLog({ keepEvents: 100 });
  await using tiny = openTiny({ lanes, gpuBatchSize: 1, numGpuBatches: 2 });
  await runAll(
    tiny.engine,
    [0, 1].map((id) => makeRequest(id, { maxTokens: 1 })),
  );
  expect(lanes.events().map(({ lane, name, bytes }) => [lane, name, bytes])).toEqual(
    ['embed', 'layer 0', 'layer 1', 'head'].flatMap((layer) => [0, 1].map((batch) => ['compute', `${layer}, batch ${batch}`, 0])),
  );
});

it('a piece ends when the device fails', async () => {
  const clock = { ms: 0 };
  const lanes = new LaneLog({ now: () => clock.ms });
  const run = async (): Promise<void> => {
    clock.ms += 10;
    throw new Error('device on fire');
  };
  const device = Object.assign(createReferenceDevice(), { run });
  await using tiny = openTiny({ lanes, device });
  await expect(collect(tiny.engine.run([makeRequest(0)]))).rejects.toThrow('device on fire');
  clock.ms += 1000;
  expect(lanes.totals().find(({ lane }) => lane === 'compute')).toMatchObject({ busySeconds: 0.01, pieces: 1 });
});
