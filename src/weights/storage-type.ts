/** The types that a user may have weights stored in. */
import type { WeightSpec } from '../models/model.ts';
import { blockElements, type WeightType } from '../tensor/dtype.ts';

/** `auto` keeps the type that a weight has. */
export const STORAGE_TYPES = ['auto', 'f32', 'f16', 'bf16', 'q8', 'q4'] as const;
export type StorageType = (typeof STORAGE_TYPES)[number];

/** Whether a model that is not in the wanted form gets a file of its own: `auto` from a size on that is worth it. */
export const CONVERT_MODES = ['auto', 'always', 'never'] as const;
export type ConvertMode = (typeof CONVERT_MODES)[number];

/** The block types behind the names, in the order in which they are tried: rows must be whole blocks. Why these: docs/decisions/0006-q4-is-q4-k.md */
const CANDIDATES: Readonly<Record<Exclude<StorageType, 'auto'>, readonly WeightType[]>> = {
  f32: ['f32'],
  f16: ['f16'],
  bf16: ['bf16'],
  q8: ['q8_0', 'f16'],
  q4: ['q4_k', 'q4_0', 'f16'],
};

/** The type of a weight that is stored as `stored`. Vectors and routers are small, decide much, and always f32. */
export function storageTypeOf({ role, shape }: Pick<WeightSpec, 'role' | 'shape'>, stored: WeightType, wanted: StorageType): WeightType {
  if (role === 'vector' || role === 'router') return 'f32';
  if (wanted === 'auto') return stored;
  const columns = shape.at(-1)!;
  return CANDIDATES[wanted].find((type) => columns % blockElements(type) === 0)!;
}
