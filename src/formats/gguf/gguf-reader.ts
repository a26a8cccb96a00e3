import type { ByteSource } from '../byte-source.ts';
import { MAX_NAME_LENGTH, MAX_TENSORS } from '../limits.ts';
import { quote } from '../quote.ts';
import type { TensorEntry } from '../tensor-entry.ts';
import { GgufCursor } from './gguf-cursor.ts';
import { MAX_GGUF_ALIGNMENT, MAX_GGUF_KEYS, MAX_GGUF_RANK, MIN_GGUF_KEY_BYTES, MIN_GGUF_TENSOR_BYTES } from './gguf-limits.ts';
import { type GgufMetadata, type GgufTypes, readMetadata } from './gguf-metadata.ts';
import { ALIGNMENT_KEY, alignUp, DEFAULT_ALIGNMENT, dtypeOfId, REFUSED_TENSOR_TYPES, tensorBytes } from './gguf-types.ts';

/** What a GGUF file says before its weights. */
export interface GgufHeader {
  readonly version: number;
  readonly metadata: GgufMetadata;
  readonly types: GgufTypes;
  /** In file order. */
  readonly entries: readonly TensorEntry[];
  /** Bytes from the start of the file to the end of the table of tensors, without the padding that follows. */
  readonly headerBytes: number;
  /** Tensors start at multiples of it, in bytes. */
  readonly alignment: number;
}

/** An entry that still counts from the start of the weights. */
type RelativeEntry = Omit<TensorEntry, 'start'> & { readonly offset: number };

/** "GGUF" as a u32. */
const MAGIC = 0x46554747;

/**
 * Reads metadata and table of a GGUF file of version 2 or 3, checked: names and keys stand once, every range is aligned, inside the file
 * and overlaps no other. Source: the format's description in ggml's repository, `docs/gguf.md`.
 * @throws {FormatError} naming the key or tensor, what was found and what was expected
 */
export async function readGguf(source: ByteSource): Promise<GgufHeader> {
  const cursor = new GgufCursor(source);
  const version = await readVersion(cursor);
  const tensorCount = await cursor.count('the table', 'tensors', MAX_TENSORS, MIN_GGUF_TENSOR_BYTES);
  const keyCount = await cursor.count('the metadata', 'keys', MAX_GGUF_KEYS, MIN_GGUF_KEY_BYTES);
  const { metadata, types } = await readMetadata(cursor, keyCount);
  const alignment = alignmentOf(cursor, metadata);
  const relative = await readTable(cursor, tensorCount);
  const headerBytes = cursor.position;
  const dataStart = alignUp(headerBytes, alignment);
  const entries = relative.map((entry) => place(cursor, entry, dataStart, alignment));
  entries.sort((a, b) => a.start - b.start);
  checkRanges(cursor, entries, source.byteLength);
  return { version, metadata, types, entries, headerBytes, alignment };
}

async function readVersion(cursor: GgufCursor): Promise<number> {
  await cursor.fill(8, 'magic and version');
  const magic = cursor.u32();
  if (magic !== MAGIC) cursor.fail(`starts with 0x${magic.toString(16).padStart(8, '0')}, not with "GGUF": no GGUF file`);
  const version = cursor.u32();
  if (version !== 0 && (version & 0xffff) === 0) cursor.fail('is a big-endian GGUF file; only little-endian ones are read');
  if (version !== 2 && version !== 3) cursor.fail(`is GGUF version ${version}; 2 and 3 are read`);
  return version;
}

function alignmentOf(cursor: GgufCursor, metadata: GgufMetadata): number {
  const value = metadata.get(ALIGNMENT_KEY) ?? DEFAULT_ALIGNMENT;
  const valid = typeof value === 'number' && value >= 8 && value <= MAX_GGUF_ALIGNMENT && Number.isInteger(Math.log2(value));
  if (!valid) return cursor.fail(`${ALIGNMENT_KEY} is ${show(value)}; a power of two from 8 to ${MAX_GGUF_ALIGNMENT} expected`);
  return value;
}

/** JSON knows no bigint. */
const show = (value: unknown): string => (typeof value === 'bigint' ? String(value) : quote(value));

async function readTable(cursor: GgufCursor, count: number): Promise<RelativeEntry[]> {
  const entries = new Map<string, RelativeEntry>();
  for (let i = 0; i < count; i++) {
    const entry = await readEntry(cursor, `tensor ${i + 1} of ${count}`);
    if (entries.has(entry.name)) cursor.fail(`tensor ${quote(entry.name)} stands twice`);
    entries.set(entry.name, entry);
  }
  return [...entries.values()];
}

async function readEntry(cursor: GgufCursor, which: string): Promise<RelativeEntry> {
  const nameBytes = await cursor.count(`${which}: name`, 'bytes', MAX_NAME_LENGTH, 1);
  if (nameBytes === 0) cursor.fail(`${which}: name is empty`);
  await cursor.fill(nameBytes, which);
  const name = cursor.strictText(nameBytes, `${which}: name`);
  const what = `tensor ${quote(name)}`;
  await cursor.fill(4, what);
  const rank = cursor.u32();
  if (rank > MAX_GGUF_RANK) cursor.fail(`${what} has ${rank} dimensions, at most ${MAX_GGUF_RANK} are read`);
  await cursor.fill(8 * rank + 12, what);
  const shape = Array.from({ length: rank }, () => toSize(cursor, what)).reverse();
  const typeId = cursor.u32();
  const offset = cursor.u64();
  const dtype = dtypeOfId(typeId) ?? cursor.fail(`${what} has type ${typeId}, ${REFUSED_TENSOR_TYPES.get(typeId) ?? 'which is unknown'}`);
  const byteLength = tensorBytes(dtype, shape);
  if (typeof byteLength === 'string') return cursor.fail(`${what}: ${byteLength}`);
  if (offset > BigInt(Number.MAX_SAFE_INTEGER)) cursor.fail(`${what}: offset ${offset} is outside of any file`);
  return { name, dtype, shape, byteLength, offset: Number(offset) };
}

function toSize(cursor: GgufCursor, what: string): number {
  const size = cursor.u64();
  if (size === 0n || size > BigInt(Number.MAX_SAFE_INTEGER)) cursor.fail(`${what} has a dimension of ${size} elements`);
  return Number(size);
}

function place(cursor: GgufCursor, { offset, ...entry }: RelativeEntry, dataStart: number, alignment: number): TensorEntry {
  if (offset % alignment !== 0) cursor.fail(`tensor ${quote(entry.name)}: offset ${offset} is no multiple of the alignment ${alignment}`);
  return { ...entry, start: dataStart + offset };
}

function checkRanges(cursor: GgufCursor, entries: readonly TensorEntry[], fileBytes: number): void {
  let end = 0;
  for (const { name, start, byteLength } of entries) {
    if (start < end) cursor.fail(`tensor ${quote(name)} starts at byte ${start}, inside the one before, which ends at byte ${end}`);
    end = start + byteLength;
    if (end > fileBytes) cursor.fail(`tensor ${quote(name)} ends at byte ${end}, the file at ${fileBytes}; was it downloaded completely?`);
  }
}
