/** FlexGen's six numbers: how many percent of the weights, the KV cache and the hidden states rest on the GPU and in RAM; the rest is on disk. */
import type { Tier } from '../tensor/device.ts';
import { UsageError } from '../util/errors.ts';

const NAMES = ['weights', 'KV cache', 'hidden states'] as const;

/** As many as there are numbers. */
export const PERCENT_COUNT = 6;

/** What stays in memory, shares from 0 to 1. */
export interface MemoryShares {
  readonly weights: number;
  readonly cache: number;
  readonly hidden: number;
}

/** @throws {UsageError} for numbers that are no shares, and for homes that there are not */
export function memoryShares(percent: readonly number[], tier: Tier, onNotice?: (notice: string) => void): MemoryShares {
  const wrong = percent.length !== PERCENT_COUNT || percent.some((each) => !Number.isInteger(each) || each < 0 || each > 100);
  if (wrong) throw new UsageError(`percent: six integers from 0 to 100 expected, got ${percent.join(' ') || 'none'}`);
  const shares = NAMES.map((name, i) => {
    const [gpu, cpu] = [percent[2 * i]!, percent[2 * i + 1]!];
    if (gpu + cpu > 100) throw new UsageError(`percent: ${gpu} + ${cpu} percent of the ${name} are more than all`);
    return { name, gpu, memory: gpu + cpu };
  });
  const [weights, cache, hidden] = shares as [(typeof shares)[0], (typeof shares)[0], (typeof shares)[0]];
  if (tier === 'cpu' && shares.some(({ gpu }) => gpu > 0)) onNotice?.('there is no GPU: what --percent puts there stays in RAM');
  return { weights: weights.memory / 100, cache: cache.memory / 100, hidden: hidden.memory / 100 };
}
