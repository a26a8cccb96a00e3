import { isAllowed } from './argmax.ts';

/** Logits of one position and how they become weights. */
export interface Row {
  /** [vocabulary], without NaN or +Infinity. */
  readonly logits: Float32Array;
  /** Allowed ids as a bit set; undefined allows all. */
  readonly mask: Uint32Array | undefined;
  /** Largest allowed logit. */
  readonly best: number;
  /** Above 0. */
  readonly temperature: number;
}

/**
 * What a filter keeps, without a list of ids: allowed tokens with a logit above `value`, and those with exactly `value` up to `lastId`.
 */
export interface Cut {
  readonly value: number;
  readonly lastId: number;
}

/** Keeps every allowed token that has a probability. */
export const KEEP_ALL: Cut = { value: -Infinity, lastId: -1 };

/** Buckets of top-p per unit of logit / temperature, and in all: 32 units, beyond which less than 1e-9 of the probability is left. */
const BUCKETS_PER_NAT = 64;
const BUCKETS = 32 * BUCKETS_PER_NAT;

/** exp((logit - best) / temperature) of a kept token, in (0, 1]; 0 of any other. */
export function weightOf(row: Row, cut: Cut, id: number): number {
  const x = row.logits[id]!;
  if (x < cut.value || (x === cut.value && id > cut.lastId) || !isAllowed(row.mask, id)) return 0;
  return Math.exp((x - row.best) / row.temperature);
}

/** Keeps the k largest logits, and all that equal the k-th (as Hugging Face transformers does). */
export function topKCut(row: Row, k: number): Cut {
  const { logits, mask } = row;
  if (k >= logits.length) return KEEP_ALL;
  const heap = new Float32Array(k).fill(-Infinity);
  for (let id = 0; id < logits.length; id++) {
    if (logits[id]! > heap[0]! && isAllowed(mask, id)) replaceSmallest(heap, logits[id]!);
  }
  return heap[0] === -Infinity ? KEEP_ALL : { value: heap[0]!, lastId: logits.length };
}

/**
 * Keeps the smallest set of most probable tokens whose share of what `before` keeps is at least p, lower ids first among equals. Weights
 * are summed in buckets of falling logits, so only the logits of the one bucket where the sum passes p need be sorted.
 */
export function topPCut(row: Row, before: Cut, p: number): Cut {
  const { logits } = row;
  const sums = new Float64Array(BUCKETS);
  for (let id = 0; id < logits.length; id++) {
    const weight = weightOf(row, before, id);
    if (weight > 0) sums[bucketOf(row, id)]! += weight;
  }
  const target = p * sums.reduce((total, sum) => total + sum, 0);
  let above = 0;
  let bucket = 0;
  // The last bucket with a weight ends the search, as rounding of p * total may leave the target out of reach.
  for (let i = 0; i < BUCKETS; i++) {
    if (sums[i] === 0) continue;
    bucket = i;
    if (above + sums[i]! >= target) break;
    above += sums[i]!;
  }
  return cutInBucket(row, before, bucket, target - above);
}

/** The cut after the most probable tokens of a bucket whose weights sum to `target`, or after all of them. */
function cutInBucket(row: Row, before: Cut, bucket: number, target: number): Cut {
  const ids: number[] = [];
  for (let id = 0; id < row.logits.length; id++) {
    if (bucketOf(row, id) === bucket && weightOf(row, before, id) > 0) ids.push(id);
  }
  const values = Float32Array.from(ids, (id) => row.logits[id]!).sort();
  let value = NaN;
  let equal = 0;
  let sum = 0;
  for (let i = values.length - 1; i >= 0; i--) {
    equal = values[i] === value ? equal + 1 : 1;
    value = values[i]!;
    sum += Math.exp((value - row.best) / row.temperature);
    if (sum >= target) break;
  }
  const lastId = ids.filter((id) => row.logits[id] === value)[equal - 1]!;
  return { value, lastId };
}

/** Grows as the logit falls. */
function bucketOf(row: Row, id: number): number {
  return Math.floor(Math.min(BUCKETS - 1, ((row.best - row.logits[id]!) / row.temperature) * BUCKETS_PER_NAT));
}

/** Puts a larger value in place of the root of a heap whose parents are at most their children. */
function replaceSmallest(heap: Float32Array, value: number): void {
  let at = 0;
  for (;;) {
    let child = 2 * at + 1;
    if (child >= heap.length) break;
    if (child + 1 < heap.length && heap[child + 1]! < heap[child]!) child++;
    if (heap[child]! >= value) break;
    heap[at] = heap[child]!;
    at = child;
  }
  heap[at] = value;
}
