import type { WeightType } from '../tensor/dtype.ts';
import type { WeightSpec } from '../models/model.ts';

/** Where a model's weights come from: a checkpoint, or made up. */
export interface WeightSource {
  /**
   * Finds a weight by its spec and checks it, without reading it. What it gives is the weight as the spec describes it: of fused tensors
   * the `rows`, of a `stack` all parts, of a vector the sum with its `offset`. Specs with `values` never get here. `layer` is for messages.
   * @throws {FormatError} when it is missing (with the names tried), or has another shape or an unknown type
   */
  find(spec: WeightSpec, layer: string): SourceWeight;
}

/** One weight that a source has, of the shape that was asked for. */
export interface SourceWeight {
  /** How its elements are stored. */
  readonly dtype: WeightType;
  /**
   * Fills `target` with the elements from number `first` on, as stored, little-endian; so `target` has whole elements.
   * @throws {FormatError} naming file and tensor
   */
  read(first: number, target: Uint8Array): Promise<void>;
}
