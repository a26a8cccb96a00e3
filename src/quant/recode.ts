/** Elements of one stored type as another, worked out on threads beside the main one. */
import { availableParallelism } from 'node:os';
import { GGML_TYPE } from '../native/ggml.ts';
import { openBase, openCpu } from '../native/open-ggml.ts';
import { readTypeTraits } from '../native/type-traits.ts';
import { blockElements, byteLengthOf, elementsIn, isQuantType, type WeightType } from '../tensor/dtype.ts';
import { BufferPool } from '../util/buffer-pool.ts';
import { FlexError, NativeError } from '../util/errors.ts';

/** Below this, starting a thread costs more than it saves. */
const MIN_ELEMENTS_PER_THREAD = 1 << 15;

/**
 * Fills `target` with the elements of `source` as `to`, rounded as ggml does: to nearest for f16 and bf16, its reference code for blocks; for
 * q8_0 its code for this processor, which is 14 times as fast and differs where a number is just between two.
 * Both are whole blocks of either type; `source` starts at a multiple of 4 bytes.
 * @param pool for what lies between
 * @throws {FlexError} `value`, for numbers that are not finite, or are too large for f16
 */
export async function recode(
  from: WeightType,
  source: Uint8Array,
  to: WeightType,
  target: Uint8Array,
  pool: BufferPool = new BufferPool(),
): Promise<void> {
  const count = elementsIn(from, source.byteLength);
  const unit = Math.max(blockElements(from), blockElements(to));
  const threads = Math.max(1, Math.min(availableParallelism(), Math.floor(count / MIN_ELEMENTS_PER_THREAD)));
  const share = Math.ceil(count / threads / unit) * unit;
  const parts = Array.from({ length: Math.ceil(count / share) }, (_, i) => [i * share, Math.min(count, (i + 1) * share)] as const);
  const piece = (type: WeightType, bytes: Uint8Array, first: number, end: number): Uint8Array =>
    bytes.subarray(byteLengthOf(type, first), byteLengthOf(type, end));
  await Promise.all(
    parts.map(([first, end]) => recodePart(from, piece(from, source, first, end), to, piece(to, target, first, end), pool)),
  );
}

async function recodePart(from: WeightType, source: Uint8Array, to: WeightType, target: Uint8Array, pool: BufferPool): Promise<void> {
  if (!isQuantType(from) && !(await isFinite(from, source))) throw valueError('a number that is not finite');
  const count = elementsIn(from, source.byteLength);
  if (from === 'f32') await quantize(to, new Float32Array(source.buffer, source.byteOffset, count), target);
  else
    await pool.use(4 * count, async ({ buffer }) => {
      const values = new Float32Array(buffer, 0, count);
      await toFloats(from, source, values);
      await quantize(to, values, target);
    });
  if (to === 'f16' && !(await isFinite(to, target)))
    throw valueError('a number beyond 65504, the largest that f16 has; bf16 has larger ones');
}

const valueError = (what: string): FlexError => new FlexError('value', what);

async function toFloats(from: WeightType, source: Uint8Array, values: Float32Array): Promise<void> {
  const { toFloat } = readTypeTraits(openBase(), GGML_TYPE[from]);
  if (!toFloat) throw new NativeError(`ggml does not widen ${from}`);
  await new Promise<void>((resolve, reject) => {
    toFloat.async(source, values, values.length, (error) => (error ? reject(error) : resolve()));
  });
}

async function quantize(to: WeightType, values: Float32Array, target: Uint8Array): Promise<void> {
  const { quantizeRowQ8 } = to === 'q8_0' ? openCpu() : {};
  if (quantizeRowQ8) {
    await new Promise<void>((resolve, reject) => {
      quantizeRowQ8.async(values, target, values.length, (error) => (error ? reject(error) : resolve()));
    });
    return;
  }
  const written = await new Promise<number>((resolve, reject) => {
    openBase().quantizeChunk.async(GGML_TYPE[to], values, target, 0, 1, values.length, null, (error, bytes) =>
      error ? reject(error) : resolve(bytes),
    );
  });
  if (written !== target.byteLength) throw new NativeError(`ggml wrote ${written} bytes of ${to}, ${target.byteLength} expected`);
}

async function isFinite(type: WeightType, bytes: Uint8Array): Promise<boolean> {
  return new Promise((resolve, reject) => {
    openBase().validateRowData.async(GGML_TYPE[type], bytes, bytes.byteLength, (error, valid) => (error ? reject(error) : resolve(valid)));
  });
}
