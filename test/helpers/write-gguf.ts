/** GGUF files byte by byte, so that they can lie. */
import { Buffer } from 'node:buffer';

export const u8 = (value: number): Buffer => Buffer.of(value);
export const u32 = (value: number): Buffer => Buffer.from(Uint32Array.of(value).buffer);
export const u64 = (value: number | bigint): Buffer => Buffer.from(BigUint64Array.of(BigInt(value)).buffer);
export const f32 = (...values: number[]): Buffer => Buffer.from(Float32Array.from(values).buffer);
export const str = (text: string | Uint8Array): Buffer => Buffer.concat([u64(Buffer.from(text).length), Buffer.from(text)]);

export interface TensorLies {
  readonly name?: string | Uint8Array;
  /** Innermost first, as in the file. */
  readonly dims?: readonly (number | bigint)[];
  readonly rank?: number;
  readonly type?: number;
  readonly offset?: number | bigint;
}

export interface GgufLies {
  readonly magic?: string;
  readonly version?: number;
  readonly tensorCount?: number | bigint;
  readonly keyCount?: number | bigint;
  /** Key, number of the type, bytes of the value. */
  readonly keys?: readonly (readonly [key: string | Uint8Array, type: number, value: Uint8Array])[];
  /** F32 [2] at offset 0 by default. */
  readonly tensors?: readonly TensorLies[];
  readonly alignment?: number;
  /** Bytes behind the padding. */
  readonly data?: number;
}

export function ggufBytes({ magic = 'GGUF', version = 3, keys = [], tensors = [], alignment = 32, data = 0, ...counts }: GgufLies): Buffer {
  const head = Buffer.concat([
    Buffer.from(magic),
    u32(version),
    u64(counts.tensorCount ?? tensors.length),
    u64(counts.keyCount ?? keys.length),
    ...keys.flatMap(([key, type, value]) => [str(key), u32(type), value]),
    ...tensors.map(tensorBytes),
  ]);
  return Buffer.concat([head, Buffer.alloc((alignment - (head.length % alignment)) % alignment), Buffer.alloc(data, 1)]);
}

/** The value of an array: type of the elements, number of them, their bytes. */
export const array = (type: number, count: number | bigint, ...elements: Uint8Array[]): Buffer =>
  Buffer.concat([u32(type), u64(count), ...elements]);

function tensorBytes({ name = 'a', dims = [2], rank = dims.length, type = 0, offset = 0 }: TensorLies): Buffer {
  return Buffer.concat([str(name), u32(rank), ...dims.map(u64), u32(type), u64(offset)]);
}
