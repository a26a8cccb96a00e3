import { join } from 'node:path';
import { FormatError } from '../util/errors.ts';
import { type ByteSource, openFile } from './byte-source.ts';
import { isJsonObject, readJsonObject } from './json-file.ts';
import { MAX_INDEX_BYTES, MAX_SHARDS } from './limits.ts';
import { ggufHint } from './model-folder.ts';
import { readPytorch } from './pytorch.ts';
import { quote } from './quote.ts';
import { readSafetensors } from './safetensors.ts';
import type { StoredTensor, TensorEntry } from './tensor-entry.ts';

/** One open file of weights. */
export interface WeightFile {
  /** Within its folder. */
  readonly name: string;
  readonly source: ByteSource;
  /** Bytes that say which tensors there are, from the start of the file. */
  readonly headerBytes: number;
  readonly entries: ReadonlyMap<string, StoredTensor>;
}

/** All weights of a folder. Whoever opened it closes the files. */
export interface WeightFiles {
  readonly files: readonly WeightFile[];
  readonly entries: ReadonlyMap<string, StoredTensor>;
}

/** A way of storing weights that Hugging Face folders use. */
interface Kind {
  readonly single: string;
  readonly index: string;
  readonly read: (source: ByteSource) => Promise<WeightTable>;
}

interface WeightTable {
  readonly entries: readonly TensorEntry[];
  readonly headerBytes: number;
}

/** Preferred ones first: a folder that has both holds the same weights twice. */
const KINDS: readonly Kind[] = [
  {
    single: 'model.safetensors',
    index: 'model.safetensors.index.json',
    read: async (source) => {
      const entries = await readSafetensors(source);
      return { entries, headerBytes: entries[0]?.start ?? source.byteLength };
    },
  },
  { single: 'pytorch_model.bin', index: 'pytorch_model.bin.index.json', read: readPytorch },
];
const NOT_READ_YET = /\.(pt|pth|h5|msgpack)$/;

/**
 * Finds and opens the weights of a folder that holds `names`.
 * @throws {FormatError} when there are none, a shard is missing, or a file is damaged; nothing stays open then
 */
export async function openWeightFiles(folder: string, names: ReadonlySet<string>): Promise<WeightFiles> {
  for (const kind of KINDS) {
    if (names.has(kind.single)) {
      const file = await openWeightFile(folder, kind.single, kind);
      return { files: [file], entries: file.entries };
    }
    if (names.has(kind.index)) return openShards(folder, names, kind);
  }
  const wanted = KINDS.flatMap(({ single, index }) => [single, index]).join(', ');
  throw new FormatError(folder, `no weights found, looked for ${wanted}${ggufHint(names) || otherHint(names)}`);
}

function otherHint(names: ReadonlySet<string>): string {
  const [other] = [...names].filter((name) => NOT_READ_YET.test(name)).sort();
  return other === undefined ? '' : `; it has ${quote(other)}, a format that is not read yet: convert it to safetensors`;
}

export async function closeAll(files: readonly WeightFile[]): Promise<void> {
  await Promise.all(files.map(({ source }) => source[Symbol.asyncDispose]()));
}

async function openWeightFile(folder: string, name: string, { read }: Kind): Promise<WeightFile> {
  const source = await openFile(join(folder, name));
  try {
    const table = await read(source);
    const entries = new Map(table.entries.map((entry) => [entry.name, { ...entry, source }]));
    return { name, source, headerBytes: table.headerBytes, entries };
  } catch (cause) {
    await source[Symbol.asyncDispose]();
    throw cause;
  }
}

async function openShards(folder: string, names: ReadonlySet<string>, kind: Kind): Promise<WeightFiles> {
  const indexFile = join(folder, kind.index);
  const shardOf = await readIndex(indexFile);
  const shards = [...new Set(shardOf.values())].sort();
  if (shards.length > MAX_SHARDS) throw new FormatError(indexFile, `lists ${shards.length} shards, at most ${MAX_SHARDS} are read`);
  const missing = shards.filter((shard) => !names.has(shard));
  if (missing.length > 0)
    throw new FormatError(indexFile, `${missing.length} of ${shards.length} shards are missing, the first is ${quote(missing[0])}`);
  const files: WeightFile[] = [];
  try {
    for (const shard of shards) files.push(await openWeightFile(folder, shard, kind));
    return { files, entries: mergeEntries(indexFile, shardOf, files) };
  } catch (cause) {
    await closeAll(files);
    throw cause;
  }
}

/** Tensor name to shard name. */
async function readIndex(indexFile: string): Promise<Map<string, string>> {
  const { weight_map: map } = await readJsonObject(indexFile, MAX_INDEX_BYTES);
  if (!isJsonObject(map)) throw new FormatError(indexFile, `weight_map must be an object of tensor and file names, got ${quote(map)}`);
  const shardOf = new Map<string, string>();
  for (const [tensor, shard] of Object.entries(map)) {
    if (typeof shard !== 'string' || !isPlainFileName(shard))
      throw new FormatError(
        indexFile,
        `tensor ${quote(tensor)} is mapped to ${quote(shard)}; the name of a file in the same folder is expected`,
      );
    shardOf.set(tensor, shard);
  }
  return shardOf;
}

/** The index decides: tensors of a shard that it does not map there are left out. */
function mergeEntries(indexFile: string, shardOf: ReadonlyMap<string, string>, files: readonly WeightFile[]): Map<string, StoredTensor> {
  const byName = new Map(files.map((file) => [file.name, file]));
  const entries = new Map<string, StoredTensor>();
  for (const [tensor, shard] of shardOf) {
    const entry = byName.get(shard)?.entries.get(tensor);
    if (!entry) throw new FormatError(indexFile, `tensor ${quote(tensor)} is mapped to ${quote(shard)}, which does not have it`);
    entries.set(tensor, entry);
  }
  return entries;
}

/** No way out of the folder, on any system: neither separators nor drive letters nor `..`. */
const isPlainFileName = (name: string): boolean => /^[^/\\:\p{Cc}]{1,255}$/u.test(name) && name !== '.' && name !== '..';
