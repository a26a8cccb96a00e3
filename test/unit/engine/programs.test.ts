import { describe, expect, it } from 'vitest';
import { ProgramCache } from '../../../src/engine/program-cache.ts';
import { openCheckpoint } from '../../../src/formats/checkpoint.ts';
import { buildModel } from '../../../src/models/registry.ts';
import type { Device } from '../../../src/tensor/device.ts';
import { createNullDevice, type NullDevice } from '../../../src/tensor/null-device.ts';
import { checkpointWeights } from '../../../src/weights/checkpoint-weights.ts';
import { fixtureFolder, FIXTURE_MODELS } from '../../helpers/golden.ts';
import { collect, makeRequest, openTiny, runAll } from '../../helpers/tiny-engine.ts';

const nullDevice = (): NullDevice => createNullDevice({ flopsPerSecond: 1e9, bytesPerSecond: 1e9 });

/** Counts what is compiled. */
function countingDevice(): { device: Device; compiled: string[] } {
  const inner = nullDevice();
  const compiled: string[] = [];
  const device = new Proxy(inner, {
    get: (target, key) => {
      const value: unknown = Reflect.get(target, key, target);
      if (key !== 'compile') return typeof value === 'function' ? value.bind(target) : value;
      return (...parameters: Parameters<Device['compile']>) => {
        compiled.push(parameters[0].name);
        return inner.compile(...parameters);
      };
    },
  });
  return { device, compiled };
}

describe('programs', () => {
  it.each([1, 2])('are compiled once a shape: decode sweeps of one shape compile nothing new (%i micro-batches)', async (numGpuBatches) => {
    const { device, compiled } = countingDevice();
    await using tiny = openTiny({ device, gpuBatchSize: 3, numGpuBatches });
    const requests = Array.from({ length: 3 * numGpuBatches }, (_, id) => makeRequest(id, { tokens: 4, maxTokens: 6 }));
    const counts: number[] = [];
    for await (const _outcome of tiny.engine.run(requests)) counts.push(compiled.length);
    // Embedding, 2 layers, head; the head has 3 outputs in both kinds of sweeps.
    expect(counts).toEqual([4, 7, 7, 7, 7, 7].map((n) => n * numGpuBatches));
    await runAll(tiny.engine, requests);
    expect(compiled.length).toBe(7 * numGpuBatches);
  });

  it('of shapes used long ago are freed', async () => {
    const device = nullDevice();
    await using tiny = openTiny({ device, batchTokens: 64 });
    const used: number[] = [];
    for (let round = 0; round < 2; round++) {
      for (let tokens = 1; tokens <= 40; tokens++) await runAll(tiny.engine, [makeRequest(0, { tokens, maxTokens: 1 })]);
      used.push(device.memory().usedBytes);
    }
    expect(used[1]).toBe(used[0]);
  });

  it('and batches are disposed with the cache, oldest first when there are too many', () => {
    const device = nullDevice();
    const programs = new ProgramCache(device, 0, 1);
    const row = (count: number) => [{ tokens: new Int32Array(count), start: 0, pages: [1] }];
    const first = programs.forBatch(0, row(1));
    expect(programs.forBatch(0, row(1))).toBe(first);
    expect(programs.forBatch(1, row(1))).not.toBe(first);
    for (let count = 2; count < 30; count++) {
      programs.forBatch(0, row(count));
      expect(programs.forBatch(0, row(1))).toBe(first); // used all the time, so it stays
    }
    const heads = Array.from({ length: 30 }, (_, i) => programs.forHead(0, i + 1).ids);
    expect(device.memory().usedBytes).toBe(4 * heads.slice(6).reduce((sum, { shape }) => sum + shape[0]!, 0));
    programs[Symbol.dispose]();
    expect(device.memory().usedBytes).toBe(0);
  });
});

describe('the null device', () => {
  it.each(FIXTURE_MODELS)('runs through %s and records every step', async (name) => {
    const device = nullDevice();
    await using checkpoint = await openCheckpoint(fixtureFolder(name));
    const model = buildModel(checkpoint.config, name);
    await using tiny = openTiny({ device, model, weights: checkpointWeights(checkpoint), numGpuBatches: 2, gpuBatchSize: 1 });
    const outcomes = await collect(
      tiny.engine.run([makeRequest(0, { tokens: 5, maxTokens: 3 }), makeRequest(1, { tokens: 9, maxTokens: 3 })]),
    );
    expect(outcomes).toHaveLength(3);
    const sweep = model.layers.flatMap((layer) => [layer.name, layer.name]);
    expect(device.steps.map(({ program }) => program)).toEqual([...sweep, ...sweep, ...sweep]);
    expect(device.steps.every(({ bytes, seconds }) => bytes > 0 && seconds > 0)).toBe(true);
    // A prompt of 9 takes 9 times the products of a decoding row.
    const [prefill, decode] = [device.steps[3]!.flops, device.steps[sweep.length + 3]!.flops];
    expect(prefill / decode).toBeGreaterThan(8);
  });
});
