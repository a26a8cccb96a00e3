/** Pages of the cache rest on disk: whatever is there, tokens and log-probabilities are those of a cache in memory. */
import { readdir } from 'node:fs/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Model } from '../../../src/models/model.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { SpillFile } from '../../../src/native/spill-file.ts';
import { layerGroups } from '../../../src/kv/layer-groups.ts';
import { spillBytes } from '../../../src/kv/kv-spill.ts';
import { attentionWindows } from '../../../src/models/model.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import type { SequenceRequest } from '../../../src/engine/sequence.ts';
import { LaneLog } from '../../../src/util/lanes.ts';
import { makeRequest, openTiny, runAll, type TinyOptions, tinyModel, type PlainResult } from '../../helpers/tiny-engine.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeAll(async () => void (folder = await makeTemporaryFolder()));
afterAll(() => folder[Symbol.asyncDispose]());

const SLIDING = {
  model_type: 'gemma3_text',
  vocab_size: 40,
  hidden_size: 16,
  intermediate_size: 32,
  num_attention_heads: 2,
  num_key_value_heads: 1,
  head_dim: 8,
  num_hidden_layers: 3,
  max_position_embeddings: 512,
  sliding_window: 70,
  layer_types: ['sliding_attention', 'full_attention', 'sliding_attention'],
};

const logprobs = { logprobs: 2, temperature: 1, seed: 3 };
/** Prompts of several pages, some that begin alike, more rows than fit at a time. */
const REQUESTS: readonly SequenceRequest[] = [
  makeRequest(0, { tokens: 150, maxTokens: 60, ...logprobs }),
  makeRequest(1, { tokens: 64, maxTokens: 70, ...logprobs }),
  makeRequest(2, { tokens: 3, maxTokens: 140, ...logprobs }),
  makeRequest(3, { tokens: 130, maxTokens: 8, promptLogprobs: 1 }),
  makeRequest(4, { tokens: [...makeRequest(0, { tokens: 150 }).tokens.subarray(0, 140), 7, 8, 9], maxTokens: 20, ...logprobs }),
  makeRequest(5, { tokens: [...makeRequest(0, { tokens: 150 }).tokens.subarray(0, 100), 5], maxTokens: 90, ...logprobs }),
  makeRequest(6, { tokens: 127, maxTokens: 3, ...logprobs }),
];

interface DiskPages {
  readonly memory: number;
  readonly working: number;
  readonly bay: number;
}

async function run(
  model: Model,
  options: TinyOptions,
  disk?: DiskPages,
  device?: TinyOptions['device'],
): Promise<Map<number, PlainResult>> {
  const windows = attentionWindows(model);
  const groups = layerGroups(windows);
  const { numGpuBatches = 1 } = options;
  if (!disk) {
    await using tiny = openTiny({ model, kvPages: groups.map(() => 64), ...options });
    return await runAll(tiny.engine, REQUESTS);
  }
  const all = (pages: number): number[] => groups.map(() => pages);
  const shape = { windows, columns: model.kvHeads * model.headDim, type: 'f32', chunk: 64 } as const;
  const bytes = spillBytes(shape, all(disk.bay * numGpuBatches));
  await using file = await SpillFile.create(folder.path, bytes, false);
  const kvDisk = { workingPages: all(disk.working), bayPages: all(disk.bay), bytes };
  await using tiny = openTiny({ model, kvPages: all(disk.memory), kvDisk, file, ...options, ...(device && { device }) });
  const results = await runAll(tiny.engine, REQUESTS);
  await tiny.cache.spill!.flush();
  // Everything was given back.
  expect(tiny.cache.availablePages).toBe(tiny.cache.capacityPages);
  return results;
}

const MODELS: readonly [string, () => Model][] = [
  ['opt', tinyModel],
  ['layers with windows', () => buildModel(SLIDING, 'sliding')],
];

const DISKS: readonly [string, TinyOptions, DiskPages][] = [
  ['all of it', {}, { memory: 0, working: 6, bay: 16 }],
  ['all of it, no more memory than one row needs', {}, { memory: 0, working: 2, bay: 4 }],
  ['half of the rows', {}, { memory: 8, working: 6, bay: 8 }],
  ['all of it, in three micro-batches', { gpuBatchSize: 2, numGpuBatches: 3 }, { memory: 0, working: 8, bay: 6 }],
  ['all of it, in two micro-batches that are short of room', { gpuBatchSize: 3, numGpuBatches: 2 }, { memory: 0, working: 8, bay: 4 }],
  ['all of it, read when its turn has come', { overlap: false }, { memory: 0, working: 6, bay: 16 }],
  ['all of it, prompts not shared', { sharePrefixes: false }, { memory: 0, working: 6, bay: 16 }],
  ['all of it, several chunks a sweep', { sweepChunks: 3 }, { memory: 0, working: 12, bay: 16 }],
  ['all of it, weights in passing, too', { weightShare: 0.3 }, { memory: 0, working: 6, bay: 16 }],
];

describe.each(MODELS)('the cache on disk, %s', (_name, model) => {
  const wanted = run(model(), {});

  it.each(DISKS)('%s', async (_what, options, disk) => {
    expect(await run(model(), options, disk)).toEqual(await wanted);
  });
});

describe('the cache on disk', () => {
  it('leaves no file behind, and shows what it moved', async () => {
    const lanes = new LaneLog();
    await run(tinyModel(), { lanes }, { memory: 0, working: 6, bay: 16 });
    const bytes = new Map(lanes.totals().map((each) => [each.lane, each.bytes]));
    expect(bytes.get('disk write')).toBeGreaterThan(0);
    expect(bytes.get('disk read')).toBeGreaterThan(bytes.get('disk write')!);
    expect(await readdir(folder.path)).toEqual([]);
  });

  it('writes each full page once', async () => {
    const lanes = new LaneLog();
    await run(tinyModel(), { lanes, sharePrefixes: false, gpuBatchSize: 7 }, { memory: 0, working: 20, bay: 40 });
    // Rows that end take their last pages with them.
    const full = REQUESTS.reduce((sum, { tokens, sampling }) => sum + Math.floor((tokens.length + sampling.maxTokens - 1) / 64), 0);
    const pageBytes = 2 * 2 * 64 * 16 * 4; // keys and values, layers, positions, columns, f32
    const written = lanes.totals().find(({ lane }) => lane === 'disk write')!.bytes / pageBytes;
    expect(written).toBeLessThanOrEqual(full);
    expect(written).toBeGreaterThan(full - REQUESTS.length);
  });

  it('runs on the null device, whatever is read', async () => {
    const results = await run(
      tinyModel(),
      {},
      { memory: 0, working: 6, bay: 16 },
      createNullDevice({ flopsPerSecond: 1e9, bytesPerSecond: 1e9 }),
    );
    expect(results.size).toBe(REQUESTS.length);
  });
});
