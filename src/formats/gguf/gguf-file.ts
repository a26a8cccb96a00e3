import { access } from 'node:fs/promises';
import { basename, dirname, join } from 'node:path';
import { FormatError } from '../../util/errors.ts';
import { openFile } from '../byte-source.ts';
import { fingerprintOfFiles } from '../fingerprint.ts';
import { MAX_SHARDS } from '../limits.ts';
import { quote } from '../quote.ts';
import type { StoredTensor } from '../tensor-entry.ts';
import { closeAll, type WeightFile } from '../weight-files.ts';
import type { GgufMetadata, GgufTypes } from './gguf-metadata.ts';
import { readGguf } from './gguf-reader.ts';

/** An open GGUF model of one file or several. Disposing closes the files. */
export interface GgufFile extends AsyncDisposable {
  /** Path of the file, of the first where there are several. */
  readonly file: string;
  /** Of the first file. */
  readonly metadata: GgufMetadata;
  /** Of the values of `metadata`. */
  readonly types: GgufTypes;
  readonly entries: ReadonlyMap<string, StoredTensor>;
  readonly files: readonly WeightFile[];
  /** SHA-256 in hex over metadata, tables and samples of the weights, whatever the files are called. */
  fingerprint(): Promise<string>;
}

/** One of the files, with what it says of itself. */
interface Part extends WeightFile {
  readonly metadata: GgufMetadata;
  readonly types: GgufTypes;
}

/** As llama.cpp names the parts of a model. */
const SPLIT_NAME = /^(?<stem>.+)-(?<number>\d{5})-of-(?<count>\d{5})\.gguf$/;

/**
 * Opens a GGUF file and, where it is a part of a model, all the others beside it. Reads no weights.
 * @throws {FormatError} when a file is missing or damaged, or the parts do not belong together; nothing stays open then
 */
export async function openGguf(path: string): Promise<GgufFile> {
  const folder = dirname(path);
  const names = await partNames(path);
  const parts: Part[] = [];
  try {
    for (const name of names) parts.push(await openPart(folder, name));
    checkPlaces(parts);
    const entries = mergeEntries(parts);
    if (parts.length > 1) checkKey(parts[0]!, 'split.tensors.count', entries.size);
    return {
      file: parts[0]!.source.name,
      metadata: parts[0]!.metadata,
      types: parts[0]!.types,
      entries,
      files: parts,
      fingerprint: () => fingerprintOfFiles(parts),
      [Symbol.asyncDispose]: () => closeAll(parts),
    };
  } catch (cause) {
    await closeAll(parts);
    throw cause;
  }
}

/** Names of all parts in order, the file's own where it is the only one. */
async function partNames(path: string): Promise<string[]> {
  const own = basename(path);
  const { stem, number, count } = SPLIT_NAME.exec(own)?.groups ?? {};
  if (stem === undefined) return [own];
  const total = Number(count);
  if (total < 1 || total > MAX_SHARDS || Number(number) < 1 || Number(number) > total)
    throw new FormatError(path, `is named as part ${Number(number)} of ${total}; 1 to ${MAX_SHARDS} parts are read`);
  const names = Array.from({ length: total }, (_, i) => `${stem}-${String(i + 1).padStart(5, '0')}-of-${count}.gguf`);
  const present = await Promise.all(names.map((name) => exists(join(dirname(path), name))));
  const missing = names.filter((_, i) => !present[i]);
  if (missing.length > 0) throw new FormatError(path, `${missing.length} of ${total} parts are missing, the first is ${quote(missing[0])}`);
  return names;
}

async function exists(path: string): Promise<boolean> {
  return access(path).then(
    () => true,
    () => false,
  );
}

async function openPart(folder: string, name: string): Promise<Part> {
  const source = await openFile(join(folder, name));
  try {
    const { metadata, types, entries, headerBytes } = await readGguf(source);
    return { name, source, metadata, types, headerBytes, entries: new Map(entries.map((entry) => [entry.name, { ...entry, source }])) };
  } catch (cause) {
    await source[Symbol.asyncDispose]();
    throw cause;
  }
}

function mergeEntries(parts: readonly Part[]): Map<string, StoredTensor> {
  const merged = new Map<string, StoredTensor>();
  for (const { source, entries } of parts) {
    for (const [name, entry] of entries) {
      const other = merged.get(name);
      if (other) throw new FormatError(source.name, `tensor ${quote(name)} is also in ${basename(other.source.name)}`);
      merged.set(name, entry);
    }
  }
  return merged;
}

/** Every part knows its number and how many there are; a model in one file need not say so. */
function checkPlaces(parts: readonly Part[]): void {
  if (parts.length === 1 && !parts[0]!.metadata.has('split.count')) return;
  for (const [i, part] of parts.entries()) {
    checkKey(part, 'split.count', parts.length);
    checkKey(part, 'split.no', i);
  }
}

function checkKey({ source, metadata }: Part, key: string, expected: number): void {
  const found = metadata.get(key);
  if (found === expected) return;
  const hint = SPLIT_NAME.test(basename(source.name)) ? '' : '; parts of a model are found by names like NAME-00001-of-00003.gguf';
  throw new FormatError(source.name, `${key} is ${describe(found)}, ${expected} expected${hint}`);
}

const describe = (value: unknown): string => (typeof value === 'bigint' ? String(value) : quote(value));
