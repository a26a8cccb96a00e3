/** Why there is no plan: what is needed, what there is, and what would help. */
import { PAGE_POSITIONS } from '../tensor/device.ts';
import { MemoryError } from '../util/errors.ts';
import { formatBytes } from '../util/units.ts';
import type { PlanBytes, PlanOptions } from './execution-plan.ts';
import { PLAN_ITEMS, totalOf } from './plan-items.ts';
import { chooseHomes } from './weight-homes.ts';

/** Without so many positions a cache is no use: a question and its answer. Longer rows are refused one by one. */
export const LEAST_POSITIONS = 1024;

function itemName(name: string, cachePositions = LEAST_POSITIONS): string {
  return name === 'kv' ? `KV cache of ${cachePositions} positions` : PLAN_ITEMS[name as keyof typeof PLAN_ITEMS];
}

export function tooLarge(options: PlanOptions, fixed: Omit<PlanBytes, 'kv' | 'staged' | 'total'>, kv: number): MemoryError {
  const needed = totalOf({ ...fixed, kv });
  const memory = options.memoryName === undefined ? '' : ` of ${options.memoryName}`;
  const items = Object.entries({ ...fixed, kv })
    .toSorted(([, a], [, b]) => b - a)
    .slice(0, 3)
    .map(([name, bytes]) => `${itemName(name, options.cachePositions)} ${formatBytes(bytes)}`);
  return new MemoryError(
    `the model needs ${formatBytes(needed)}${memory}, ${formatBytes(options.budgetBytes)} may be used; largest: ${items.join(', ')}. ` +
      `${fittingShare(options, fixed, kv)}A smaller --gpu-batch-size, --kv-type f16 or a smaller model would need less`,
    { needed, budgetBytes: options.budgetBytes, pagePositions: PAGE_POSITIONS },
  );
}

export function noRoomBeside({ cachePositions = LEAST_POSITIONS, cacheBesideBytes = 0 }: PlanOptions, needed: number): MemoryError {
  return new MemoryError(
    `the KV cache of ${cachePositions} positions takes ${formatBytes(needed)} of RAM beside the GPU, ${formatBytes(Math.max(0, cacheBesideBytes))} are left for it there. ` +
      `A larger --mem, fewer percent of the weights in RAM, --kv-type q8_0 or a share of the cache on disk would help`,
    { needed, cacheBesideBytes },
  );
}

export function diskTooSmall({ cachePositions = LEAST_POSITIONS, diskBytes = 0 }: PlanOptions, needed: number): MemoryError {
  return new MemoryError(
    `the KV cache of ${cachePositions} positions takes ${formatBytes(needed)} on disk, ${formatBytes(diskBytes)} may be used. ` +
      `A larger --disk, another --offload-dir, --kv-type q8_0 or a larger share in memory would help`,
    { needed, diskBytes },
  );
}

/** A sentence about the share of the weights that would fit, when a larger one was asked for. */
function fittingShare(
  { placeWeights, weightShare, budgetBytes }: PlanOptions,
  fixed: Omit<PlanBytes, 'kv' | 'staged' | 'total'>,
  kv: number,
): string {
  if (!placeWeights || weightShare === undefined) return '';
  const room = budgetBytes - totalOf({ ...fixed, kv }) + fixed.weights + fixed.ring;
  const { share, residentBytes, ringBytes } = chooseHomes(placeWeights, room);
  return residentBytes + ringBytes > room || share >= weightShare ? '' : `At most ${Math.floor(100 * share)} percent of the weights fit. `;
}
