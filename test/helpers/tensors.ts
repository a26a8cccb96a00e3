/** Numbers in and out of device tensors, for tests. */
import type { Device, Tensor, Weight } from '../../src/tensor/device.ts';
import { bf16ToF32, type DType, f16ToF32, f32ToBf16, f32ToF16, type FloatType, isQuantType } from '../../src/tensor/dtype.ts';

/** Disposes what a test made, newest first, so that programs go before the tensors they read. */
export class Scope implements Disposable {
  readonly #items: Disposable[] = [];

  add<T extends Disposable>(item: T): T {
    this.#items.push(item);
    return item;
  }

  [Symbol.dispose](): void {
    this.close();
  }

  close(): void {
    for (const item of this.#items.splice(0).reverse()) item[Symbol.dispose]();
  }
}

/** Even numbers in [-1, 1), the same for the same seed. Source: Tommy Ettinger's mulberry32. */
export function randomNumbers(seed: number, count: number): Float32Array {
  let state = seed;
  return Float32Array.from({ length: count }, () => {
    state = (state + 0x6d2b79f5) | 0;
    let t = Math.imul(state ^ (state >>> 15), 1 | state);
    t = (t + Math.imul(t ^ (t >>> 7), 61 | t)) ^ t;
    return ((t ^ (t >>> 14)) >>> 0) / 2 ** 31 - 1;
  });
}

/** What is left of the values after storing them in a type. */
export function roundedTo(dtype: DType, values: Float32Array): Float32Array {
  return decode(dtype, encode(dtype, values));
}

export function encode(dtype: DType, values: ArrayLike<number>): Uint8Array {
  const array =
    dtype === 'f32'
      ? Float32Array.from(values)
      : dtype === 'i32'
        ? Int32Array.from(values)
        : Uint16Array.from(values, dtype === 'f16' ? f32ToF16 : f32ToBf16);
  return new Uint8Array(array.buffer);
}

export function decode(dtype: DType, bytes: Uint8Array): Float32Array {
  const { buffer } = bytes.slice();
  if (dtype === 'f32') return new Float32Array(buffer);
  if (dtype === 'i32') return Float32Array.from(new Int32Array(buffer));
  return Float32Array.from(new Uint16Array(buffer), dtype === 'f16' ? f16ToF32 : bf16ToF32);
}

export interface Contents {
  readonly name?: string;
  readonly dtype?: DType;
  readonly shape: readonly number[];
  readonly values: ArrayLike<number>;
}

/** A device tensor with these values, f32 unless told. */
export async function upload(device: Device, scope: Scope, { name = 'tensor', dtype = 'f32', shape, values }: Contents): Promise<Tensor> {
  const tensor = scope.add(device.allocate(name, dtype, shape));
  await device.write(tensor, 0, encode(dtype, values));
  return tensor;
}

export async function download(device: Device, tensor: Tensor): Promise<Float32Array> {
  const bytes = new Uint8Array(tensor.byteLength);
  await device.read(tensor, 0, bytes);
  return decode(tensor.dtype, bytes);
}

/** A weight with these values, of `parts` equal groups of rows, cut into segments before the rows in `cuts`. */
export async function uploadWeight(
  device: Device,
  scope: Scope,
  contents: Contents & { cuts?: readonly number[]; parts?: number },
): Promise<Weight> {
  const { name = 'weight', dtype = 'f32', shape, values, cuts = [], parts = 1 } = contents;
  const [rows = 0, ...rest] = shape;
  const columns = rest.reduce((product, n) => product * n, 1);
  const borders = [0, ...cuts, rows];
  const segments = [];
  for (const [i, from] of borders.slice(0, -1).entries()) {
    const to = borders[i + 1]!;
    const part = Array.prototype.slice.call(values, from * columns, to * columns) as number[];
    const tensor = await upload(device, scope, { name, dtype, shape: [to - from, ...rest], values: part });
    if (rest.length === 1) await device.pack?.(tensor, Math.max(1, (parts * (to - from)) / rows));
    segments.push({ from, to, layout: 'gguf' as const, home: device.tier, tensor });
  }
  return { name, shape, segments };
}

/** Describes the first numbers that are not within `tolerance * (1 + |wanted|)`; none if all are. NaN equals only NaN. */
export function differences(got: ArrayLike<number>, wanted: ArrayLike<number>, tolerance: number, what = 'result'): string[] {
  if (got.length !== wanted.length) return [`${what}: ${got.length} numbers, ${wanted.length} wanted`];
  const found: string[] = [];
  for (let i = 0; i < wanted.length && found.length < 5; i++) {
    const [g, w] = [got[i]!, wanted[i]!];
    const close = Number.isNaN(w) ? Number.isNaN(g) : Math.abs(g - w) <= tolerance * (1 + Math.abs(w));
    if (!close) found.push(`${what}: number ${i} is ${g}, ${w} wanted`);
  }
  return found;
}

/** Weight types that tests can store any numbers in; block types have tests of their own. */
export function floatWeights({ capabilities }: Pick<Device, 'capabilities'>): FloatType[] {
  return capabilities.weights.filter((type): type is FloatType => !isQuantType(type));
}
