/** One step of attention to measure, and its numbers. */
import { type BatchRow, PAGE_POSITIONS } from '../src/tensor/device.ts';
import { byteLengthOf, type KvType } from '../src/tensor/dtype.ts';

export const HEADS = 32;
export const HEAD_DIM = 128;
export const SCALE = 1 / Math.sqrt(HEAD_DIM);

export interface AttentionCase {
  readonly name: string;
  readonly type: KvType;
  readonly kvHeads: number;
  readonly rows: number;
  /** Position of each row's first token. */
  readonly start: number;
  readonly tokens: number;
  /** Share of the past positions whose values are used. Default: all. */
  readonly attnSparsity?: number;
}

export const positionsOf = ({ start, tokens }: AttentionCase): number => start + tokens;

/** Multiplications and additions of the pairs that the causal mask leaves. */
export function operationsOf({ rows, start, tokens }: AttentionCase): number {
  const pairs = tokens * start + (tokens * (tokens + 1)) / 2;
  return 4 * pairs * rows * HEADS * HEAD_DIM;
}

/** Of keys, and of the values that are used, each read once. */
export function cacheBytes(one: AttentionCase): number {
  const { rows, type, kvHeads, attnSparsity = 1 } = one;
  return (1 + attnSparsity) * rows * byteLengthOf(type, positionsOf(one) * kvHeads * HEAD_DIM);
}

/** Rows whose pages lie scattered in the cache. */
export function batchRows(one: AttentionCase): BatchRow[] {
  const each = Math.ceil(positionsOf(one) / PAGE_POSITIONS);
  const count = one.rows * each;
  const step = one.rows > 1 ? [7, 11, 13].find((n) => count % n !== 0)! : 1;
  const page = (i: number): number => (i * step) % count;
  return Array.from({ length: one.rows }, (_, row) => ({
    tokens: new Int32Array(one.tokens),
    start: one.start,
    prompt: one.start,
    pages: Array.from({ length: each }, (__, i) => page(row * each + i)),
  }));
}

/** Numbers between -1 and 1 that repeat after 65536. */
export function numbers(count: number): Float32Array<ArrayBuffer> {
  const pattern = Float32Array.from({ length: Math.min(count, 1 << 16) }, (_, i) => Math.sin(i * 12.9898) * Math.cos(i * 0.7));
  return repeated(pattern, new Float32Array(count));
}

/** Small numbers of a type, neither denormal nor all the same; every two bytes of blocks are a half between 0.0098 and 0.013. */
export function cacheContents(type: KvType, byteLength: number): Uint8Array<ArrayBuffer> {
  if (type === 'f32') return new Uint8Array(numbers(byteLength / 4).buffer);
  const bytes = new Uint8Array(byteLength);
  const words = new Uint16Array(bytes.buffer);
  const [least, mask] = type === 'f16' ? [0x2c00, 0x81ff] : type === 'bf16' ? [0x3d00, 0x81ff] : [0x2100, 0xff];
  repeated(
    Uint16Array.from({ length: 1 << 16 }, (_, i) => least + ((i * 0x9e5) & mask)),
    words,
  );
  return bytes;
}

function repeated<T extends Float32Array | Uint16Array>(pattern: T, target: T): T {
  for (let at = 0; at < target.length; at += pattern.length) target.set(pattern.subarray(0, target.length - at), at);
  return target;
}
