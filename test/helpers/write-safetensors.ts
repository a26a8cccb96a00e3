import { mkdtemp, mkdir, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';

/** A tensor to write: `data` as it shall stand in the file. */
export interface TensorData {
  readonly dtype: 'F32' | 'F16' | 'BF16' | 'F64';
  readonly shape: readonly number[];
  readonly data: Uint8Array;
}

export type Tensors = Readonly<Record<string, TensorData>>;

export interface CheckpointFiles {
  /** An object, or the text of the file. */
  readonly config?: unknown;
  readonly generationConfig?: unknown;
  readonly tensors?: Tensors;
  /** Shard name to tensors; an index is written too. */
  readonly shards?: Readonly<Record<string, Tensors>>;
  /** Other files by name. */
  readonly files?: Readonly<Record<string, string | Uint8Array>>;
}

/** An F32 tensor from numbers; shape [n] if none is given. */
export function f32Tensor(values: readonly number[], shape: readonly number[] = [values.length]): TensorData {
  return { dtype: 'F32', shape, data: new Uint8Array(Float32Array.from(values).buffer) };
}

/** An F16 or BF16 tensor from bit patterns. */
export function halfTensor(dtype: 'F16' | 'BF16', bits: ArrayLike<number>, shape: readonly number[] = [bits.length]): TensorData {
  return { dtype, shape, data: new Uint8Array(Uint16Array.from(bits).buffer) };
}

/** The bytes of a safetensors file. `padding` spaces follow the header, so that the data can start at any byte. */
export function safetensorsBytes(tensors: Tensors, { padding = 0 } = {}): Uint8Array {
  let end = 0;
  const header = Object.entries(tensors).map(([name, { dtype, shape, data }]) => {
    const start = end;
    end += data.length;
    return [name, { dtype, shape, data_offsets: [start, end] }];
  });
  const text = JSON.stringify(Object.fromEntries([['__metadata__', { format: 'pt' }], ...header])) + ' '.repeat(padding);
  return withHeader(text, Buffer.concat(Object.values(tensors).map(({ data }) => data)));
}

/** A file from raw header text, which may lie. */
export function withHeader(text: string, data: Uint8Array, headerLength?: bigint): Uint8Array {
  const header = new TextEncoder().encode(text);
  const bytes = new Uint8Array(8 + header.length + data.length);
  new DataView(bytes.buffer).setBigUint64(0, headerLength ?? BigInt(header.length), true);
  bytes.set(header, 8);
  bytes.set(data, 8 + header.length);
  return bytes;
}

/** Writes a Hugging Face folder. */
export async function writeCheckpoint(
  folder: string,
  { config = {}, generationConfig, tensors, shards, files }: CheckpointFiles,
): Promise<void> {
  await mkdir(folder, { recursive: true });
  const put = (name: string, content: string | Uint8Array) => writeFile(join(folder, name), content);
  await put('config.json', typeof config === 'string' ? config : JSON.stringify(config));
  if (generationConfig !== undefined) await put('generation_config.json', JSON.stringify(generationConfig));
  if (tensors) await put('model.safetensors', safetensorsBytes(tensors));
  if (shards) {
    const map = Object.entries(shards).flatMap(([shard, content]) => Object.keys(content).map((name) => [name, shard]));
    await put('model.safetensors.index.json', JSON.stringify({ metadata: {}, weight_map: Object.fromEntries(map) }));
    for (const [shard, content] of Object.entries(shards)) await put(shard, safetensorsBytes(content));
  }
  for (const [name, content] of Object.entries(files ?? {})) await put(name, content);
}

/** An empty folder that is removed on disposal. */
export async function makeTemporaryFolder(): Promise<{ readonly path: string } & AsyncDisposable> {
  const path = await mkdtemp(join(tmpdir(), 'flexllmgen-test-'));
  return { path, [Symbol.asyncDispose]: () => rm(path, { recursive: true, force: true }) };
}
