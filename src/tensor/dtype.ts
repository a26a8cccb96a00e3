import { FlexError } from '../util/errors.ts';

/**
 * Types that store elements in blocks: [elements, bytes] of one, as ggml and GGUF files have them. A row has whole blocks.
 * Source: ggml-common.h of ggml 0.23.0.
 */
export const QUANT_BLOCKS = {
  q4_0: [32, 18],
  q4_1: [32, 20],
  q5_0: [32, 22],
  q5_1: [32, 24],
  q8_0: [32, 34],
  q2_k: [256, 84],
  q3_k: [256, 110],
  q4_k: [256, 144],
  q5_k: [256, 176],
  q6_k: [256, 210],
  iq2_xxs: [256, 66],
  iq2_xs: [256, 74],
  iq2_s: [256, 82],
  iq3_xxs: [256, 98],
  iq3_s: [256, 110],
  iq1_s: [256, 50],
  iq1_m: [256, 56],
  iq4_nl: [32, 18],
  iq4_xs: [256, 136],
  tq1_0: [256, 54],
  tq2_0: [256, 66],
  mxfp4: [32, 17],
  nvfp4: [64, 36],
  q1_0: [128, 18],
  q2_0: [64, 18],
} as const satisfies Readonly<Record<string, readonly [number, number]>>;

export type QuantType = keyof typeof QUANT_BLOCKS;

/** Element types of weights. */
export type WeightType = 'f32' | 'f16' | 'bf16' | QuantType;

/** Types whose elements are stored one by one. */
export type FloatType = Exclude<WeightType, QuantType>;

/** Element types that a device tensor can have. `i32` is for indices only; `g4`, FlexGen's 4 bits in groups of 64, for caches. */
export type DType = WeightType | 'i32' | 'g4';

/** Element types of the KV cache. */
export const KV_TYPES = ['f32', 'f16', 'bf16', 'q8_0', 'q4_0', 'q4_1', 'g4'] as const;

export type KvType = (typeof KV_TYPES)[number];

const BLOCKS: Readonly<Record<DType, readonly [number, number]>> = {
  f32: [1, 4],
  f16: [1, 2],
  bf16: [1, 2],
  i32: [1, 4],
  g4: [64, 36],
  ...QUANT_BLOCKS,
};

export const WEIGHT_TYPES = Object.keys(BLOCKS).filter((type): type is WeightType => type !== 'i32' && type !== 'g4');

export const isQuantType = (type: string): type is QuantType => Object.hasOwn(QUANT_BLOCKS, type);

/** Elements that are stored together; 1 where each stands for itself. */
export function blockElements(dtype: DType): number {
  return BLOCKS[dtype][0];
}

/** Bytes of `count` elements. @throws {FlexError} `shape`, when they are no whole blocks */
export function byteLengthOf(dtype: DType, count: number): number {
  const [elements, bytes] = BLOCKS[dtype];
  if (count % elements !== 0) throw new FlexError('shape', `${count} elements of ${dtype}: a multiple of ${elements} expected`);
  return (count / elements) * bytes;
}

/** Elements that `byteLength` bytes hold. */
export function elementsIn(dtype: DType, byteLength: number): number {
  const [elements, bytes] = BLOCKS[dtype];
  return (byteLength / bytes) * elements;
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
