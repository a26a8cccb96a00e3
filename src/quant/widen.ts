/** Weights of any stored type as f32, exact to their format. */
import { GGML_TYPE } from '../native/ggml.ts';
import { openBase } from '../native/open-ggml.ts';
import { readTypeTraits, type TypeTraits } from '../native/type-traits.ts';
import { isQuantType, QUANT_BLOCKS, type QuantType, type WeightType, widenBf16, widenF16 } from '../tensor/dtype.ts';
import { internalError, NativeError } from '../util/errors.ts';

type ToFloat = NonNullable<TypeTraits['toFloat']>;

/** Fills `target` with the elements of `source`, which are whole blocks. Both start at multiples of 4 bytes. */
export function widen(type: WeightType, source: Uint8Array<ArrayBuffer>, target: Float32Array): void {
  if (isQuantType(type)) return blockReader(type)(source, target, target.length);
  const { buffer, byteOffset } = source;
  if (type === 'f32') return target.set(new Float32Array(buffer, byteOffset, target.length));
  const halves = new Uint16Array(buffer, byteOffset, target.length);
  return type === 'f16' ? widenF16(halves, target) : widenBf16(halves, target);
}

/** By ggml's own definition of the format. @throws {NativeError} when the library has another idea of the blocks than our tables */
function blockReader(type: QuantType): ToFloat {
  const { blockElements, blockBytes, toFloat } = readTypeTraits(openBase(), GGML_TYPE[type]);
  const [elements, bytes] = QUANT_BLOCKS[type];
  if (blockElements !== elements || blockBytes !== bytes)
    throw new NativeError(`ggml stores ${type} in blocks of ${blockElements} in ${blockBytes} bytes; ${elements} in ${bytes} expected`);
  if (!toFloat) throw internalError(`ggml does not widen ${type}`);
  return toFloat;
}
