import type { WeightSpec } from '../models/model.ts';
import { recode } from '../quant/recode.ts';
import { blockElements, byteLengthOf, elementsIn, type WeightType } from '../tensor/dtype.ts';
import { BufferPool } from '../util/buffer-pool.ts';
import { FormatError } from '../util/errors.ts';
import type { SourceWeight, WeightSource } from './weight-source.ts';

/** The type that a weight gets. */
export type TypeChoice = (spec: WeightSpec, stored: WeightType) => WeightType;

/**
 * The weights of another source in other types, worked out while they are read.
 * @param file where they come from, for messages
 */
export function recodedWeights(source: WeightSource, typeOf: TypeChoice, file: string): WeightSource {
  const pool = new BufferPool();
  return {
    find: (spec, layer) => {
      const stored = source.find(spec, layer);
      const dtype = typeOf(spec, stored.dtype);
      return dtype === stored.dtype ? stored : recoded(stored, dtype, { pool, what: `${file}: ${spec.name} of ${layer}` });
    },
  };
}

function recoded(stored: SourceWeight, dtype: WeightType, { pool, what }: { pool: BufferPool; what: string }): SourceWeight {
  return {
    dtype,
    read: async (first, target) => {
      const end = first + elementsIn(dtype, target.byteLength);
      const block = blockElements(stored.dtype);
      const [from, to] = [Math.floor(first / block) * block, Math.ceil(end / block) * block];
      // Blocks of the source may be longer than those wanted; then a little more is worked out than asked for.
      const exact = from === first && to === end;
      const whole = exact ? target : new Uint8Array(byteLengthOf(dtype, to - from));
      await pool.use(byteLengthOf(stored.dtype, to - from), async (raw) => {
        await stored.read(from, raw);
        await recode(stored.dtype, raw, dtype, whole, pool).catch((cause: Error) => {
          throw new FormatError(what, `has ${cause.message}`, {}, { cause });
        });
      });
      if (!exact) target.set(whole.subarray(byteLengthOf(dtype, first - from), byteLengthOf(dtype, end - from)));
    },
  };
}
