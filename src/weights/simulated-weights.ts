import type { SimulatedLane } from '../util/simulated-clock.ts';
import type { WeightSource } from './weight-source.ts';

export interface SimulatedDisk {
  readonly lane: SimulatedLane;
  /** Of one read; a disk that serves several at a time has so much for each. */
  readonly bytesPerSecond: number;
}

/** The weights of another source without their contents: reading them takes a disk's time and leaves the target as it is. */
export function simulatedWeights(source: WeightSource, { lane, bytesPerSecond }: SimulatedDisk): WeightSource {
  return {
    find: (spec, layer) => {
      const { dtype } = source.find(spec, layer);
      return { dtype, read: (_first, target) => lane.use(target.byteLength / bytesPerSecond) };
    },
  };
}
