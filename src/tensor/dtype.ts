/** Element types that a device tensor can have. `i32` is for indices only. */
export type DType = 'f32' | 'f16' | 'bf16' | 'i32';

/** Element types of weights. */
export type WeightType = 'f32' | 'f16' | 'bf16';

/** Element types of the KV cache. */
export type KvType = 'f32' | 'f16';

const ITEM_BYTES: Readonly<Record<DType, number>> = { f32: 4, f16: 2, bf16: 2, i32: 4 };

/** Bytes of `count` elements. */
export function byteLengthOf(dtype: DType, count: number): number {
  return ITEM_BYTES[dtype] * count;
}

/** Number of elements of a shape. */
export function elementCount(shape: readonly number[]): number {
  return shape.reduce((product, n) => product * n, 1);
}

const scratch = new DataView(new ArrayBuffer(4));

/** IEEE half precision to a number, exact. Node 20 has no Float16Array. */
export function f16ToF32(bits: number): number {
  const sign = bits & 0x8000 ? -1 : 1;
  const exponent = (bits >> 10) & 0x1f;
  const fraction = bits & 0x3ff;
  if (exponent === 0) return sign * fraction * 2 ** -24;
  if (exponent === 0x1f) return fraction === 0 ? sign * Infinity : NaN;
  return sign * (1024 + fraction) * 2 ** (exponent - 25);
}

/** The upper half of an f32, exact. */
export function bf16ToF32(bits: number): number {
  scratch.setUint32(0, bits << 16);
  return scratch.getFloat32(0);
}

/** Rounds to half precision, to nearest, ties to even; too large becomes infinite. */
export function f32ToF16(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  const sign = (bits >>> 16) & 0x8000;
  const magnitude = bits & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) return sign | roundToEven(Math.abs(value) * 2 ** 24);
  const rebased = magnitude - 0x38000000;
  return sign | ((rebased + 0xfff + ((rebased >>> 13) & 1)) >>> 13);
}

/** Rounds to bfloat16, to nearest, ties to even. */
export function f32ToBf16(value: number): number {
  scratch.setFloat32(0, value);
  const bits = scratch.getUint32(0);
  if ((bits & 0x7fffffff) > 0x7f800000) return (bits >>> 16) | 0x40;
  return ((bits + 0x7fff + ((bits >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Half precision to f32, element by element, exact; NaN keeps its bits. `target` has at least the length of `source`. */
export function widenF16(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, source.length);
  for (let i = 0; i < source.length; i++) bits[i] = F16_TO_F32[source[i]!]!;
}

/** bfloat16 to f32, element by element, exact. `target` has at least the length of `source`. */
export function widenBf16(source: Uint16Array, target: Float32Array): void {
  const bits = new Uint32Array(target.buffer, target.byteOffset, source.length);
  for (let i = 0; i < source.length; i++) bits[i] = source[i]! << 16;
}

/** Bits of the f32 for every half-precision pattern: one load is faster than taking the pattern apart. */
const F16_TO_F32: Uint32Array = Uint32Array.from({ length: 0x10000 }, (_, half) => f16BitsToF32Bits(half));

function f16BitsToF32Bits(half: number): number {
  const isNan = (half & 0x7fff) > 0x7c00;
  if (isNan) return (((half & 0x8000) << 16) | 0x7f800000 | ((half & 0x3ff) << 13)) >>> 0;
  scratch.setFloat32(0, f16ToF32(half));
  return scratch.getUint32(0);
}

function roundToEven(value: number): number {
  const floor = Math.floor(value);
  const rest = value - floor;
  return rest > 0.5 || (rest === 0.5 && floor % 2 === 1) ? floor + 1 : floor;
}
