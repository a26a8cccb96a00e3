import { powerOfTwo } from './power.ts';

/** Logits of one position, after penalties and mask, and how they become weights. */
export interface Row {
  /** [vocabulary], without NaN or +Infinity; -Infinity rules a token out. */
  readonly logits: Float32Array;
  /** Largest logit. */
  readonly best: number;
  /** Of differences of logits, in powers of two; see `scaleOf`. */
  readonly scale: number;
}

/**
 * What a filter keeps, without a list of ids: tokens with a logit above `value`, and those with exactly `value` up to `lastId`.
 */
export interface Cut {
  readonly value: number;
  readonly lastId: number;
}

const MOST_FLOAT: number = (2 - 2 ** -23) * 2 ** 127;
/** Keeps every token that has a probability. */
export const KEEP_ALL: Cut = { value: -MOST_FLOAT, lastId: Infinity };

/** So that 0 times it stays 0 at temperatures whose inverse is no number. */
const MOST_SCALE = 1e300;

/** exp(x / temperature) is 2^(x * scale). */
export const scaleOf = (temperature: number): number => Math.min(Math.LOG2E / temperature, MOST_SCALE);

/** exp((logit - best) / temperature) of a kept token, in [0, 1]; 0 of any other. */
export function weightOf({ logits, best, scale }: Row, cut: Cut, id: number): number {
  const x = logits[id]!;
  if (x < cut.value || (x === cut.value && id > cut.lastId)) return 0;
  return powerOfTwo((x - best) * scale);
}

/** Ids whose weights are summed together, so that a draw need compute only one block's weights again. FLX_SAMPLE_BLOCK of the kernels. */
export const BLOCK = 256;

/** Sums that each block is added up in, as the kernels' vectors do: id i belongs to sum i % LANES. */
const LANES = 8;

export interface BlockSums {
  /** Sums of the blocks. */
  readonly sums: Float64Array;
  readonly total: number;
}

/** Sums of the kept weights, in an order that the kernels keep too. */
export function blockSums(row: Row, cut: Cut): BlockSums {
  const vocabulary = row.logits.length;
  const sums = new Float64Array(Math.ceil(vocabulary / BLOCK));
  const lanes = new Float64Array(LANES);
  let total = 0;
  for (let block = 0; block < sums.length; block++) {
    const end = Math.min(vocabulary, (block + 1) * BLOCK);
    lanes.fill(0);
    for (let id = block * BLOCK; id < end; id++) lanes[id % LANES]! += weightOf(row, cut, id);
    const sum = sumOfLanes(lanes);
    sums[block] = sum;
    total += sum;
  }
  return { sums, total };
}

function sumOfLanes(lanes: Float64Array): number {
  const four = (i: number): number => lanes[i]! + lanes[i + 4]!;
  return four(0) + four(2) + (four(1) + four(3));
}
