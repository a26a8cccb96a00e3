import { describe, expect, it } from 'vitest';
import { createPlan, type PlanOptions } from '../../../src/engine/execution-plan.ts';
import { sweepSteps } from '../../../src/engine/schedule.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { publishedConfig } from '../../../src/models/opt-sizes.ts';
import { MemoryError } from '../../../src/util/errors.ts';
import { placeWeights } from '../../helpers/hundred-layers.ts';
import { tinyModel } from '../../helpers/tiny-engine.ts';

describe('sweepSteps', () => {
  it('goes through the layers, each for all micro-batches, and says when weights come and go', () => {
    expect([...sweepSteps(2, 3)]).toEqual([
      { layer: 0, microBatch: 0, acquire: true, release: false },
      { layer: 0, microBatch: 1, acquire: false, release: false },
      { layer: 0, microBatch: 2, acquire: false, release: true },
      { layer: 1, microBatch: 0, acquire: true, release: false },
      { layer: 1, microBatch: 1, acquire: false, release: false },
      { layer: 1, microBatch: 2, acquire: false, release: true },
    ]);
    expect([...sweepSteps(1, 1)]).toEqual([{ layer: 0, microBatch: 0, acquire: true, release: true }]);
  });
});

describe('createPlan', () => {
  it('says where every byte lies', () => {
    const plan = createPlan(tinyModel(), { kvType: 'f32', weightBytes: 1000, budgetBytes: 1e9, gpuBatchSize: 4, numGpuBatches: 2 });
    const page = 2 * 2 * 64 * 16 * 4;
    const bytes = {
      weights: 1000,
      ring: 0,
      staging: 0,
      program: 0,
      results: 0,
      hidden: 4 * 16 * 512 * 2,
      logits: 4 * 40 * 128,
      scratch: 4 * (512 * 2 * (3 * 16 + 4 * 16 + 32 + 16) + 4 * 2048 * 16),
      kv: (4 * 2 * 4 + 1) * page,
      staged: 0,
    };
    const total = Object.values(bytes).reduce((a, b) => a + b);
    expect(plan).toEqual({
      gpuBatchSize: 4,
      numGpuBatches: 2,
      batchTokens: 512,
      sweepChunks: 1,
      headRows: 128,
      kvType: 'f32',
      kvPages: [4 * 2 * 4],
      kvDisk: null,
      hiddenOnDisk: 0,
      attnSparsity: 1,
      weights: { share: 1, slots: 0, streamedBytes: 0 },
      bytes: { ...bytes, total },
    });
    expect(Object.isFrozen(plan) && Object.isFrozen(plan.bytes)).toBe(true);
  });

  it('reckons with what lies between the ops of a layer, and of the head where that is more', () => {
    const options = { kvType: 'f32', weightBytes: 1000, budgetBytes: 1e9, pagedAttention: true } as const;
    expect(createPlan(tinyModel(), options).bytes.scratch).toBe(4 * 512 * (3 * 16 + 4 * 16 + 32 + 16));
    const wordy = { ...tinyModel(), vocabularySize: 50_000 };
    expect(createPlan(wordy, options).bytes.scratch).toBe(4 * 128 * (50_000 + 2 * 16));
  });

  it('takes as many pages as half of what is left has room for', () => {
    const model = tinyModel();
    const options = { kvType: 'f32', weightBytes: 1000, gpuBatchSize: 64 } as const;
    const { bytes } = createPlan(model, { ...options, budgetBytes: 1e9 });
    const fixed = bytes.total - bytes.kv;
    const page = 2 * 2 * 64 * 16 * 4;
    expect(createPlan(model, { ...options, budgetBytes: fixed + 2 * 10 * page + 5 }).kvPages).toEqual([9]);
    expect(createPlan(model, { ...options, kvType: 'f16', budgetBytes: fixed + 2 * 10 * page }).kvPages).toEqual([19]);
  });

  it('refuses only what does not hold one sequence', () => {
    const model = tinyModel();
    const options = { kvType: 'f32', weightBytes: 1000 } as const;
    const { bytes } = createPlan(model, { ...options, budgetBytes: 1e9 });
    const page = 2 * 2 * 64 * 16 * 4;
    const enough = bytes.total - bytes.kv + 5 * page;
    const plan = createPlan(model, { ...options, budgetBytes: enough });
    expect([plan.kvPages, plan.bytes.total]).toEqual([[4], enough]);
    expect(() => createPlan(model, { ...options, budgetBytes: enough - 1 })).toThrow(MemoryError);
  });

  it('holds a part of a very long context if that is what fits', () => {
    const config = { model_type: 'llama', num_hidden_layers: 1, max_position_embeddings: 131072, num_key_value_heads: 8 };
    const model = buildModel(config, 'config.json');
    const options = { kvType: 'f16', weightBytes: 1000, gpuBatchSize: 1 } as const;
    const { bytes, kvPages } = createPlan(model, { ...options, budgetBytes: 1e12 });
    const page = 2 * 64 * 8 * 128 * 2;
    const fixed = bytes.total - bytes.kv;
    expect(kvPages).toEqual([2048]);
    expect(createPlan(model, { ...options, budgetBytes: fixed + 2 * 1000 * page }).kvPages).toEqual([999]);
    expect(createPlan(model, { ...options, budgetBytes: fixed + 65 * page }).kvPages).toEqual([64]);
    expect(createPlan(model, { ...options, budgetBytes: fixed + 17 * page }).kvPages).toEqual([16]);
    expect(() => createPlan(model, { ...options, budgetBytes: fixed + 16 * page })).toThrow(MemoryError);
  });

  it('gives layers with a window the pages that they can hold at most', () => {
    const model = buildModel(
      {
        model_type: 'gemma2',
        num_hidden_layers: 4,
        sliding_window: 1000,
        max_position_embeddings: 8192,
        num_key_value_heads: 4,
        head_dim: 64,
      },
      'config.json',
    );
    const options = { kvType: 'f16', weightBytes: 1000, gpuBatchSize: 2 } as const;
    const plan = createPlan(model, { ...options, budgetBytes: 1e12 });
    // The first query of a chunk of 512 sees 999 positions before it: 1511 in a row touch 25 pages at most.
    expect(plan.kvPages).toEqual([2 * 25, 2 * 128]);
    const page = 2 * 64 * 256 * 2; // of one layer; two of each kind
    expect(plan.bytes.kv).toBe(2 * page * (2 * 25 + 1 + 2 * 128 + 1));
    const fixed = plan.bytes.total - plan.bytes.kv;
    expect(createPlan(model, { ...options, budgetBytes: fixed + 2 * 2 * page * (51 + 101) }).kvPages).toEqual([50, 100]);
    expect(createPlan(model, { ...options, budgetBytes: fixed + 2 * page * (51 + 65) }).kvPages).toEqual([50, 64]);
  });

  it('refuses what cannot fit, with the numbers, the largest items and a way out', () => {
    const model = buildModel(publishedConfig('opt-30b'), 'opt-30b');
    const plan = () => createPlan(model, { kvType: 'f16', weightBytes: 60e9, budgetBytes: 16 * 2 ** 30 });
    expect(plan).toThrow(MemoryError);
    // 17 pages of 48 layers of 2 x 64 x 7168 numbers in f16.
    expect(plan).toThrow(
      /^the model needs 62\.1 GB, 17\.2 GB may be used; largest: weights 60\.0 GB, KV cache of 1024 positions 1\.50 GB, /,
    );
    expect(plan).toThrow(/--gpu-batch-size/);
  });
});

describe('createPlan, with weights that may pass through', () => {
  const model = tinyModel();
  const options = { kvType: 'f32', weightBytes: 100e6, placeWeights, gpuBatchSize: 4 } as const;
  const { bytes } = createPlan(model, { ...options, budgetBytes: 1e9 });
  const fixed = bytes.total - bytes.kv - bytes.weights;

  it('keeps all of them where they fit beside a good cache', () => {
    const plan = createPlan(model, { ...options, budgetBytes: bytes.total });
    expect(plan.weights).toEqual({ share: 1, slots: 0, streamedBytes: 0 });
    expect(plan.bytes).toMatchObject({ weights: 100e6, ring: 0 });
  });

  it('otherwise keeps a share of them, fills the budget, and never goes beyond it', () => {
    for (const budgetBytes of [60e6, 40e6, 30e6]) {
      const plan = createPlan(model, { ...options, budgetBytes });
      expect(plan.weights.slots).toBe(3);
      expect(plan.weights.share).toBeLessThan((budgetBytes - fixed) / 100e6);
      expect(plan.weights.streamedBytes).toBe(Math.round(100e6 * (1 - plan.weights.share)));
      expect(plan.bytes.ring).toBe(3 * Math.round(1e6 * (1 - plan.weights.share)));
      expect(plan.bytes.total).toBeLessThanOrEqual(budgetBytes);
    }
  });

  it('has as many micro-batches as the cache has room for, if weights pass through and nobody says how many', () => {
    const small = { ...options, gpuBatchSize: 1, budgetBytes: 60e6 };
    const plan = createPlan(model, small);
    expect(plan.numGpuBatches).toBe(2); // the model's context is 4 pages
    expect(plan.bytes.total).toBeLessThanOrEqual(60e6);
    expect(createPlan(model, { ...small, numGpuBatches: 1 }).numGpuBatches).toBe(1);
    expect(createPlan(model, { ...small, budgetBytes: 1e9 }).numGpuBatches).toBe(1);
  });

  it('computes more chunks of prompts in a sweep, if weights pass through and hidden states take little beside the cache', () => {
    const plan = createPlan(model, { ...options, budgetBytes: 60e6 });
    expect(plan.sweepChunks * plan.numGpuBatches).toBeLessThanOrEqual(8);
    expect(plan.bytes.hidden).toBe(4 * 16 * 512 * plan.numGpuBatches * plan.sweepChunks);
    expect(plan.bytes.hidden).toBeLessThanOrEqual(plan.bytes.kv / 8 + 4 * 16 * 512);
    expect(createPlan(model, { ...options, budgetBytes: 1e9 }).sweepChunks).toBe(1);
  });

  it('takes two slots where three do not fit, and refuses less with the numbers', () => {
    const least = fixed + 2e6 + 5 * 2 * 2 * 64 * 16 * 4;
    const plan = createPlan(model, { ...options, budgetBytes: least });
    expect(plan.weights).toMatchObject({ share: 0, slots: 2 });
    expect(plan.bytes.total).toBe(least);
    expect(() => createPlan(model, { ...options, budgetBytes: least - 1 })).toThrow(/weights in passing 2\.00 MB/);
  });

  it('obeys a share that was asked for, or refuses', () => {
    const plan = createPlan(model, { ...options, weightShare: 0.2, budgetBytes: 1e9 });
    expect(plan.weights).toEqual({ share: 0.2, slots: 3, streamedBytes: 80e6 });
    expect(() => createPlan(model, { ...options, weightShare: 0.9, budgetBytes: 60e6 })).toThrow(/largest: weights 90\.0 MB/);
  });

  it('counts the program and the buffers of reads', () => {
    const plan = createPlan(model, { ...options, budgetBytes: 1e9, programBytes: 5e6, stagingBytes: 7e6 });
    expect(plan.bytes).toEqual({ ...bytes, program: 5e6, staging: 7e6, total: bytes.total + 12e6 });
  });

  it('counts log-probabilities of the rows that are in flight together, where it counts the program', () => {
    const rows = { count: 1000, positions: 100 };
    const room = { ...options, gpuBatchSize: 4, numGpuBatches: 3, budgetBytes: 1e9, programBytes: 5e6, rows, scores: 210 };
    const resultsOf = (more: Partial<PlanOptions>) => createPlan(model, { ...room, ...more }).bytes.results;
    expect(resultsOf({})).toBe(400 * 12 * 210);
    expect(resultsOf({ scores: 1e5 })).toBe(80 * 12 * 1e5 + (16 << 20));
    expect(resultsOf({ rows: { ...rows, count: 7 } })).toBe(400 * 7 * 210);
    expect(resultsOf({ rows: undefined })).toBe(400 * 12 * 210);
    expect(resultsOf({ scores: undefined })).toBe(0);
    expect(resultsOf({ programBytes: undefined })).toBe(0);
  });

  it('has fewer rows at a time where log-probabilities of more leave no room', () => {
    const room = { ...options, programBytes: 5e6, gpuBatchSize: 1, budgetBytes: 60e6 };
    expect(createPlan(model, room).numGpuBatches).toBe(2);
    const plan = createPlan(model, { ...room, scores: 3e5 });
    expect(plan.numGpuBatches).toBe(1);
    expect(plan.bytes.results).toBe(80 * 3e5 + (16 << 20));
    expect(plan.bytes.total).toBeLessThanOrEqual(60e6);
  });
});

describe('createPlan, with rows that are known', () => {
  const model = tinyModel();
  const page = 2 * 2 * 64 * 16 * 4;
  const options = { kvType: 'f32', weightBytes: 100e6, placeWeights, gpuBatchSize: 64 } as const;

  it('gives the cache no more room than they can fill, one row more for what they share', () => {
    const pagesOf = (count: number, positions: number) =>
      createPlan(model, { ...options, budgetBytes: 1e9, rows: { count, positions } }).kvPages;
    expect(pagesOf(10, 65)).toEqual([11 * 2]);
    expect(pagesOf(1000, 64)).toEqual([65]);
    expect(pagesOf(1000, 1e6)).toEqual([64 * 4]);
    expect(createPlan(model, { ...options, budgetBytes: 1e9 }).kvPages).toEqual([64 * 4]);
  });

  it('keeps room for a long row all the same: what is known of them is an estimate', () => {
    const plan = createPlan(model, { ...options, budgetBytes: 1e9, rows: { count: 1, positions: 3 } });
    expect(plan.kvPages).toEqual([4]);
  });

  it('has no more micro-batches than there are rows, and leaves the rest to the weights', () => {
    const streamed = { ...options, gpuBatchSize: 4, budgetBytes: 60e6 };
    const [known, unknown] = [createPlan(model, { ...streamed, rows: { count: 5, positions: 64 } }), createPlan(model, streamed)];
    expect(known.numGpuBatches).toBe(2);
    expect(known.bytes.kv).toBe(6 * page + page);
    expect(known.weights.share).toBeGreaterThanOrEqual(unknown.weights.share);
    expect(known.bytes.total).toBeLessThanOrEqual(60e6);
  });

  it('has room for one long row where weights pass through, with the rest of its kind behind it', () => {
    const plan = createPlan(model, { ...options, budgetBytes: 60e6, rows: { count: 1, positions: 200 } });
    expect(plan.weights.slots).toBe(3);
    expect(plan.kvPages).toEqual([4 * 4]);
  });

  it('gives a cache on disk, whose parts must each hold any row, the same room as without', () => {
    const onDisk = { ...options, budgetBytes: 1e9, cacheShare: 0, numGpuBatches: 4 };
    expect(createPlan(model, { ...onDisk, rows: { count: 1, positions: 3 } })).toEqual(createPlan(model, onDisk));
  });
});
