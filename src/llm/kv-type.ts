import type { Device } from '../tensor/device.ts';
import { blockElements, KV_TYPES, type KvType } from '../tensor/dtype.ts';
import { UsageError } from '../util/errors.ts';

/**
 * Type of the keys and values that are kept: what was asked for, or f16, or f32 where everything is computed in f32.
 * @throws {UsageError} for a type that the device lacks or that heads of this size cannot have
 */
export function resolveKvType(
  wanted: 'auto' | KvType,
  { device, compute, headDim }: { device: Device; compute: 'auto' | 'f32'; headDim: number },
): KvType {
  const type = wanted === 'auto' ? (compute === 'f32' ? 'f32' : 'f16') : wanted;
  const { kv } = device.capabilities;
  if (!kv.includes(type)) throw new UsageError(`--kv-type ${type}: ${device.name} has ${kv.join(', ')}`);
  const fits = (each: KvType): boolean => headDim % blockElements(each) === 0;
  if (fits(type)) return type;
  const others = KV_TYPES.filter((each) => kv.includes(each) && fits(each)).join(', ');
  throw new UsageError(
    `--kv-type ${type}: groups of ${blockElements(type)} elements do not divide this model's heads of ${headDim}; possible are ${others}`,
  );
}
