/** FlexGen's six numbers: how many percent of the weights, the KV cache and the hidden states rest on the GPU and in RAM; the rest is on disk. */
import type { Tier } from '../tensor/device.ts';
import { UsageError } from '../util/errors.ts';
import type { TierShares } from '../weights/placement.ts';

const NAMES = ['weights', 'KV cache', 'hidden states'] as const;

/** As many as there are numbers. */
export const PERCENT_COUNT = 6;

/** What rests where, shares from 0 to 1. */
export interface Shares {
  /** In the memory of the device that computes, and in RAM beside it. */
  readonly weights: TierShares;
  /** Not on disk. */
  readonly cache: number;
  /** It lies in RAM, and on disk, beside the device that computes. */
  readonly cacheBeside: boolean;
  /** Not on disk. */
  readonly hidden: number;
}

/**
 * @param tier of the device
 * @throws {UsageError} for numbers that are no shares
 */
export function sharesOf(percent: readonly number[], tier: Tier, onNotice?: (notice: string) => void): Shares {
  const wrong = percent.length !== PERCENT_COUNT || percent.some((each) => !Number.isInteger(each) || each < 0 || each > 100);
  if (wrong) throw new UsageError(`percent: six integers from 0 to 100 expected, got ${percent.join(' ') || 'none'}`);
  const shares = NAMES.map((name, i) => {
    const [gpu, cpu] = [percent[2 * i]!, percent[2 * i + 1]!];
    if (gpu + cpu > 100) throw new UsageError(`percent: ${gpu} + ${cpu} percent of the ${name} are more than all`);
    return { name, gpu, cpu, memory: gpu + cpu };
  });
  const [weights, cache, hidden] = shares as [(typeof shares)[0], (typeof shares)[0], (typeof shares)[0]];
  const others = { cache: cache.memory / 100, hidden: hidden.memory / 100 };
  if (tier === 'cpu') {
    if (shares.some(({ gpu }) => gpu > 0)) onNotice?.('there is no GPU: what --percent puts there stays in RAM');
    return { weights: { resident: weights.memory / 100, held: 0 }, cacheBeside: false, ...others };
  }
  if (hidden.cpu > 0) onNotice?.('what --percent puts into RAM of the hidden states stays on the GPU');
  const cacheBeside = cache.gpu < 100;
  if (cacheBeside && cache.gpu > 0)
    onNotice?.('a part of the KV cache is in RAM or on disk, so none of it is on the GPU: its share there goes to RAM');
  return { weights: { resident: weights.gpu / 100, held: weights.cpu / 100 }, cacheBeside, ...others };
}
