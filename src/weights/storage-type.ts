/** The types that a user may have weights stored in. */
import type { WeightSpec } from '../models/model.ts';
import { blockElements, type WeightType } from '../tensor/dtype.ts';

/** `auto` keeps the type that a weight has. */
export const STORAGE_TYPES = ['auto', 'f32', 'f16', 'bf16', 'q8', 'q6', 'q5', 'q4'] as const;
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
  q6: ['q6_k', 'q8_0', 'f16'],
  q5: ['q5_k', 'q5_0', 'f16'],
  q4: ['q4_k', 'q4_0', 'f16'],
};

/** The type of a weight that is stored as `stored`. Vectors and routers are small, decide much, and always f32. */
export function storageTypeOf({ role, shape }: Pick<WeightSpec, 'role' | 'shape'>, stored: WeightType, wanted: StorageType): WeightType {
  if (role === 'vector' || role === 'router') return 'f32';
  if (wanted === 'auto') return stored;
  const columns = shape.at(-1)!;
  return CANDIDATES[wanted].find((type) => columns % blockElements(type) === 0)!;
}

/**
 * Says which weights cannot have the first type behind a name, and what they get instead, such as `--dtype q4: rows of 64 are no whole blocks of
 * q4_k (256), so 15 weights are q4_0`. Undefined where all can.
 */
export function fallbackNotice(specs: Iterable<Pick<WeightSpec, 'name' | 'role' | 'shape'>>, wanted: StorageType): string | undefined {
  if (wanted === 'auto') return undefined;
  const first = CANDIDATES[wanted][0]!;
  const others = new Map<WeightType, { names: Set<string>; columns: Set<number> }>();
  for (const spec of specs) {
    if (spec.role === 'vector' || spec.role === 'router') continue;
    const type = storageTypeOf(spec, first, wanted);
    if (type === first) continue;
    const other = others.get(type) ?? { names: new Set(), columns: new Set() };
    others.set(type, { names: other.names.add(spec.name), columns: other.columns.add(spec.shape.at(-1)!) });
  }
  if (others.size === 0) return undefined;
  const parts = [...others].map(([type, { names, columns }]) => {
    const rows = [...columns].toSorted((a, b) => a - b).join(', ');
    return `rows of ${rows} are no whole blocks of ${first} (${blockElements(first)}), so ${names.size === 1 ? '1 weight is' : `${names.size} weights are`} ${type}`;
  });
  return `--dtype ${wanted}: ${parts.join('; ')}`;
}
