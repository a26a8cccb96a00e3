/** Random models, plans and rows for the engine, all of them from one number. */
import { bufferBytes } from '../../src/engine/buffer-bytes.ts';
import { cacheBytes } from '../../src/engine/cache-homes.ts';
import type { PlanBytes } from '../../src/engine/execution-plan.ts';
import { homesOf } from '../../src/engine/weight-homes.ts';
import type { SequenceRequest } from '../../src/engine/sequence.ts';
import { heldPages, layerGroups } from '../../src/kv/layer-groups.ts';
import { attentionWindows, type Model } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import type { Device } from '../../src/tensor/device.ts';
import { placeWeights, type WeightPlacement } from '../../src/weights/placement.ts';
import { planWeights } from '../../src/weights/weight-plan.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { readFixtureJson } from './golden.ts';
import { randomNumbers } from './tensors.ts';
import { makeRequest } from './tiny-engine.ts';

export interface RandomSizes {
  readonly gpuBatchSize: number;
  readonly numGpuBatches: number;
  readonly batchTokens: number;
  readonly sweepChunks: number;
  readonly headRows: number;
  readonly kvType: 'f32';
  readonly kvPages: readonly number[];
}

export interface RandomRun {
  readonly model: Model;
  readonly sizes: RandomSizes;
  readonly homes: { readonly weightShare: number; readonly slots: number; readonly overlap: boolean; readonly sharePrefixes: boolean };
  readonly requests: readonly SequenceRequest[];
  readonly rates: {
    readonly flopsPerSecond: number;
    readonly bytesPerSecond: number;
    readonly diskBytesPerSecond: number;
    readonly diskPlaces: number;
    /** When the rows come, in bytes that the disk could have read until then. */
    readonly beginBytes: number;
  };
}

/** Random choices, the same for the same seed. */
class Dice {
  #seed: number;

  constructor(seed: number) {
    this.#seed = seed;
  }

  /** In [0, 1). */
  share(): number {
    return (randomNumbers(this.#seed++, 1)[0]! + 1) / 2;
  }

  /** A whole number from `least` to `most`. */
  from(least: number, most: number): number {
    return least + Math.floor(this.share() * (most - least + 1));
  }

  of<T>(all: readonly T[]): T {
    return all[this.from(0, all.length - 1)]!;
  }

  /** True in one of `n` cases. */
  oneIn(n: number): boolean {
    return this.from(1, n) === 1;
  }

  /** Between two powers of ten. */
  magnitude(least: number, most: number): number {
    return 10 ** (least + this.share() * (most - least));
  }
}

const FAMILIES = [
  'opt',
  'opt-350m-style',
  'llama',
  'mistral',
  'gemma',
  'gemma2',
  'gemma3',
  'qwen2',
  'qwen3',
  'qwen2_moe',
  'qwen3_moe',
  'mixtral',
  'phi3',
  'phi3-longrope',
];
/** Dice of different runs have nothing in common. */
const DICE = 1e5;

export function randomRun(seed: number): RandomRun {
  const dice = new Dice(seed * DICE);
  const model = randomModel(dice);
  const grows = dice.oneIn(5);
  const requests = grows ? growingRows(dice, model) : mixedRows(dice, model);
  const sizes = randomSizes(dice, model, requests, grows);
  return {
    model,
    requests,
    sizes,
    homes: {
      weightShare: dice.of([0, 1, dice.share(), dice.share()]),
      slots: dice.from(2, 3),
      overlap: !dice.oneIn(3),
      sharePrefixes: !dice.oneIn(3),
    },
    rates: {
      flopsPerSecond: dice.magnitude(8, 11),
      bytesPerSecond: dice.magnitude(9, 11),
      diskBytesPerSecond: dice.magnitude(7, 9),
      diskPlaces: dice.from(1, 8),
      beginBytes: dice.magnitude(3, 6),
    },
  };
}

function randomModel(dice: Dice): Model {
  const family = dice.of(FAMILIES);
  const fixture = readFixtureJson(`models/${family}/config.json`) as Record<string, unknown>;
  const wide = dice.oneIn(20); // weights of several pieces
  const inner = 32 * dice.from(1, 8);
  const config = {
    ...fixture,
    vocab_size: wide ? dice.from(17_000, 34_000) : dice.from(40, 300),
    num_hidden_layers: dice.from(1, 6),
    ...('ffn_dim' in fixture ? { ffn_dim: inner } : { intermediate_size: inner }),
    ...('tie_word_embeddings' in fixture && { tie_word_embeddings: dice.oneIn(2) }),
    ...(typeof fixture['sliding_window'] === 'number' && { sliding_window: dice.from(2, 100) }),
  };
  return buildModel(config, family);
}

const tokensOf = (dice: Dice, count: number): number[] => Array.from({ length: count }, () => dice.from(0, 39));

/** Long and short prompts, some of which begin alike, some scored. */
function mixedRows(dice: Dice, { contextLength }: Model): SequenceRequest[] {
  const beginning = tokensOf(dice, dice.from(0, 80));
  return Array.from({ length: dice.from(1, 9) }, (_, id) => {
    const own = tokensOf(dice, dice.from(1, dice.oneIn(3) ? 100 : 12));
    const tokens = [...(dice.oneIn(2) ? beginning : []), ...own].slice(0, contextLength - 10);
    const scores = dice.oneIn(6);
    return makeRequest(id, { tokens, maxTokens: dice.from(scores ? 0 : 1, 9), ...(scores && { promptLogprobs: 1 }) });
  });
}

/** Short answers teach the engine that answers are short; then come long ones, which run out of pages. */
function growingRows(dice: Dice, { contextLength }: Model): SequenceRequest[] {
  const short = dice.from(16, 20);
  return Array.from({ length: short + dice.from(2, 5) }, (_, id) => {
    const tokens = tokensOf(dice, dice.from(1, 40));
    return makeRequest(id, { tokens, maxTokens: id < short ? dice.from(1, 3) : Math.min(contextLength - 41, dice.from(30, 80)) });
  });
}

function randomSizes(dice: Dice, model: Model, requests: readonly SequenceRequest[], grows: boolean): RandomSizes {
  const gpuBatchSize = dice.from(1, 5);
  const batchTokens = Math.max(gpuBatchSize, dice.from(4, 80));
  const sweepChunks = dice.from(1, 3);
  const longest = Math.max(...requests.map(({ tokens, sampling }) => tokens.length + sampling.maxTokens));
  const spare = grows ? dice.from(0, 3) : dice.from(0, 12);
  const kvPages = layerGroups(attentionWindows(model)).map(({ window }) => heldPages(longest, window, batchTokens * sweepChunks) + spare);
  return { gpuBatchSize, numGpuBatches: dice.from(1, 4), batchTokens, sweepChunks, headRows: dice.from(1, 8), kvType: 'f32', kvPages };
}

/** Where the plan has the weights. */
export function placementOf({ model, homes }: RandomRun, source: WeightSource, device: Device): WeightPlacement {
  return placeWeights(planWeights(model, source, device.capabilities, 'f32'), homes.weightShare);
}

/** What the plan says that a run takes, in bytes. */
export function plannedBytes(
  { model, sizes, homes }: RandomRun,
  placement: WeightPlacement,
): Pick<PlanBytes, 'weights' | 'ring' | 'kv' | 'hidden' | 'logits' | 'scratch'> {
  const { residentBytes: weights, ringBytes: ring } = homesOf(() => placement, homes.weightShare, homes.slots);
  const { hidden, logits, scratch } = bufferBytes(model, { ...sizes, hiddenOnDisk: 0 }, {});
  return { weights, ring, hidden, logits, scratch, kv: cacheBytes(model, sizes.kvType, sizes.kvPages) };
}
