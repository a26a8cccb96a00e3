import { blockSums, type Cut, KEEP_ALL, type Row, weightOf } from './weights.ts';

/** Keeps the k largest logits, and all that equal the k-th (as Hugging Face transformers does). */
export function topKCut({ logits }: Row, k: number): Cut {
  if (k >= logits.length) return KEEP_ALL;
  const heap = new Float32Array(k).fill(-Infinity);
  for (const x of logits) if (x > heap[0]!) replaceSmallest(heap, x);
  return heap[0] === -Infinity ? KEEP_ALL : { value: heap[0]!, lastId: Infinity };
}

/** Keeps tokens of at least p times the probability of the most probable one. */
export function minPCut({ best }: Row, temperature: number, p: number): Cut {
  return { value: Math.fround(best + temperature * Math.log(p)), lastId: Infinity };
}

/** What both keep. */
export function stronger(a: Cut, b: Cut): Cut {
  if (a.value !== b.value) return a.value > b.value ? a : b;
  return a.lastId < b.lastId ? a : b;
}

/** Bits of a key that each round of `topPCut` looks at, highest first. */
const DIGITS = [
  { shift: 21, bits: 11 },
  { shift: 10, bits: 11 },
  { shift: 0, bits: 10 },
] as const;

/**
 * Keeps the smallest set of most probable tokens whose share of what `before` keeps is at least p, lower ids first among equals. Nothing is sorted:
 * weights are summed by the highest bits of their logits, then those with the bits at which the sum passes p by the next ones.
 */
export function topPCut(row: Row, before: Cut, p: number): Cut {
  const { logits } = row;
  const keys = new Uint32Array(logits.buffer, logits.byteOffset, logits.length);
  const target = p * blockSums(row, before).total;
  let above = 0;
  let prefix = 0;
  for (const { shift, bits } of DIGITS) {
    const sums = new Float64Array(1 << bits);
    for (let id = 0; id < logits.length; id++) {
      const key = orderedKey(keys[id]!);
      // A shift by 32 would be one by 0.
      if (shift + bits < 32 && key >>> (shift + bits) !== prefix) continue;
      sums[(key >>> shift) & (sums.length - 1)]! += weightOf(row, before, id);
    }
    let digit = -1;
    // The last one with a weight ends the search, as rounding of p * total may leave the target out of reach.
    for (let i = sums.length - 1; i >= 0; i--) {
      if (sums[i] === 0) continue;
      if (digit >= 0) above += sums[digit]!;
      digit = i;
      if (above + sums[i]! >= target) break;
    }
    prefix = ((prefix << bits) | digit) >>> 0;
  }
  return cutAmongEquals(row, before, prefix, target - above);
}

/** The cut after as many tokens with the logit of a key as have `target` of weight together, or after all of them. */
function cutAmongEquals(row: Row, before: Cut, key: number, target: number): Cut {
  const value = floatOf(key);
  let sum = 0;
  let lastId = -1;
  for (let id = 0; id < row.logits.length; id++) {
    if (row.logits[id] !== value) continue;
    const weight = weightOf(row, before, id);
    if (weight === 0) continue;
    lastId = id;
    sum += weight;
    if (sum >= target) break;
  }
  return { value, lastId };
}

/** An integer that grows with the float of these bits; the same for both zeros. */
function orderedKey(bits: number): number {
  if (bits === 0x80000000) return 0x80000000;
  return (bits & 0x80000000 ? ~bits : bits | 0x80000000) >>> 0;
}

function floatOf(key: number): number {
  const bits = key & 0x80000000 ? key & 0x7fffffff : ~key;
  return new Float32Array(Uint32Array.of(bits).buffer)[0]!;
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
