/** FlexGen's six numbers: how many percent of the weights, the KV cache and the hidden states rest on the GPU and in RAM; the rest is on disk. */
import type { Tier } from '../tensor/device.ts';
import { UsageError } from '../util/errors.ts';
import type { TierShares } from '../weights/placement.ts';

const NAMES = ['weights', 'KV cache', 'hidden states'] as const;

/** As many as there are numbers. */
export const PERCENT_COUNT = 6;

/**
 * The shares of the weights in the memory of the device that computes and in RAM beside it.
 * @param tier of the device
 * @throws {UsageError} for numbers that are no shares, and for homes that there are not
 */
export function weightSharesOf(percent: readonly number[], tier: Tier, onNotice?: (notice: string) => void): TierShares {
  const wrong = percent.length !== PERCENT_COUNT || percent.some((each) => !Number.isInteger(each) || each < 0 || each > 100);
  if (wrong) throw new UsageError(`percent: six integers from 0 to 100 expected, got ${percent.join(' ') || 'none'}`);
  const shares = NAMES.map((name, i) => {
    const [gpu, cpu] = [percent[2 * i]!, percent[2 * i + 1]!];
    if (gpu + cpu > 100) throw new UsageError(`percent: ${gpu} + ${cpu} percent of the ${name} are more than all`);
    return { name, gpu, cpu, memory: gpu + cpu };
  });
  const [weights, ...others] = shares as [(typeof shares)[0], ...typeof shares];
  for (const { name, memory } of others)
    if (memory < 100) throw new UsageError(`percent: ${name}: ${100 - memory} percent on disk cannot be had, all of it stays in memory`);
  if (tier === 'cpu') {
    if (shares.some(({ gpu }) => gpu > 0)) onNotice?.('there is no GPU: what --percent puts there stays in RAM');
    return { resident: weights.memory / 100, held: 0 };
  }
  const inRam = others.filter(({ cpu }) => cpu > 0).map(({ name }) => name);
  if (inRam.length > 0) onNotice?.(`what --percent puts into RAM of the ${inRam.join(' and the ')} stays on the GPU`);
  return { resident: weights.gpu / 100, held: weights.cpu / 100 };
}
