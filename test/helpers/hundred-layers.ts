import type { WeightPlacement } from '../../src/weights/placement.ts';

/** Where weights of 100 layers of 1 MB would lie. */
export const placeWeights = (share: number): WeightPlacement => ({
  layers: [],
  residentBytes: Math.round(100e6 * share),
  heldBytes: 0,
  uploadedBytes: 0,
  streamedBytes: Math.round(100e6 * (1 - share)),
  slotBytes: Math.round(1e6 * (1 - share)),
});
