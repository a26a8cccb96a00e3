/** How much of the weights stays in the device's memory, and how the rest passes through it. */
import type { WeightPlacement } from '../weights/placement.ts';

export interface WeightHomesPlan {
  /** Share of the weights' bytes that stay in the device's memory, of every layer. */
  readonly share: number;
  /** Layers that the ring holds at a time: one that computes, others that are read. 0 where all stays. */
  readonly slots: number;
  readonly residentBytes: number;
  readonly ringBytes: number;
  /** Bytes that every sweep reads from disk. */
  readonly streamedBytes: number;
}

/** One layer computes, one waits, one is read: the disk never stands still. */
const SLOTS = 3;
/** Still read while computing, but not while a layer that was read waits. */
export const LEAST_SLOTS = 2;
/** More of the room for a third slot would be better used for rows. */
const MOST_RING = 1 / 4;
/** Shares are tried in steps of 1 / STEPS. */
const STEPS = 1000;

export type PlaceWeights = (share: number) => WeightPlacement;

/** With a share that was asked for. */
export function homesOf(place: PlaceWeights, share: number, slots: number = SLOTS): WeightHomesPlan {
  const { residentBytes, streamedBytes, slotBytes } = place(share);
  return {
    share,
    slots: slotBytes > 0 ? slots : 0,
    residentBytes,
    ringBytes: slots * slotBytes,
    streamedBytes,
  };
}

const memoryOf = ({ residentBytes, ringBytes }: WeightHomesPlan): number => residentBytes + ringBytes;

/** The least memory that weights can be computed in. */
export const leastHomes = (place: PlaceWeights): WeightHomesPlan => homesOf(place, 0, LEAST_SLOTS);

/** The largest share for which weights and ring take no more than `room` bytes; the least of all if none does. */
export function chooseHomes(place: PlaceWeights, room: number): WeightHomesPlan {
  const most = SLOTS * place(0).slotBytes <= room * MOST_RING ? SLOTS : LEAST_SLOTS;
  for (const slots of new Set([most, LEAST_SLOTS])) {
    let [low, high] = [-1, STEPS];
    while (low < high) {
      const middle = Math.ceil((low + high) / 2);
      if (memoryOf(homesOf(place, middle / STEPS, slots)) <= room) low = middle;
      else high = middle - 1;
    }
    if (low >= 0) return homesOf(place, low / STEPS, slots);
  }
  return leastHomes(place);
}
