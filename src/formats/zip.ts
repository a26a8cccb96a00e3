/**
 * The directory of a zip file whose entries are stored, not compressed, so that each is a range of the file.
 * Source: PKWARE's APPNOTE.TXT 6.3.10, sections 4.3.7 (local header), 4.3.12 (directory), 4.3.14 to 4.3.16 (ends), 4.5.3 (zip64).
 */
import { FormatError } from '../util/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { MAX_NAME_LENGTH, MAX_ZIP_DIRECTORY_BYTES, MAX_ZIP_ENTRIES } from './limits.ts';
import { quote } from './quote.ts';

/** An entry's content as a range of the file. */
export interface ZipEntry {
  readonly name: string;
  readonly start: number;
  readonly byteLength: number;
}

interface Directory {
  readonly start: number;
  readonly byteLength: number;
  readonly count: number;
}

/** What the directory says of an entry. */
interface Listed {
  readonly name: string;
  readonly nameBytes: Uint8Array;
  readonly byteLength: number;
  /** Of the local header. */
  readonly headerStart: number;
}

const SIGNATURES = { local: 0x04034b50, entry: 0x02014b50, end: 0x06054b50, end64: 0x06064b50, locator64: 0x07064b50 } as const;
const LOCAL_BYTES = 30;
const ENTRY_BYTES = 46;
const END_BYTES = 22;
const END64_BYTES = 56;
const LOCATOR64_BYTES = 20;
const MAX_COMMENT_BYTES = 0xffff;
const ENCRYPTED = 0x1;
/** In a 4-byte field: the value stands in the zip64 field. */
const IN_ZIP64 = 0xffffffff;

/**
 * Lists the entries in file order, checked: inside the file, without overlap, with the same name in both headers.
 * @throws {FormatError} naming the entry, and when one is compressed or encrypted
 */
export async function readZip(source: ByteSource): Promise<ZipEntry[]> {
  const directory = await findDirectory(source);
  const bytes = await readBytes(source, directory.start, directory.byteLength);
  const listed = parseDirectory(source.name, bytes, directory).sort((a, b) => a.headerStart - b.headerStart);
  const names = new Set<string>();
  const entries: ZipEntry[] = [];
  for (const [i, item] of listed.entries()) {
    if (names.has(item.name)) throw new FormatError(source.name, `zip entry ${quote(item.name)} stands twice in the directory`);
    names.add(item.name);
    entries.push(await locate(source, item, listed[i + 1]?.headerStart ?? directory.start));
  }
  return entries;
}

async function findDirectory(source: ByteSource): Promise<Directory> {
  const fail = failer(source.name);
  const tailStart = Math.max(0, source.byteLength - END_BYTES - MAX_COMMENT_BYTES);
  const tail = viewOf(await readBytes(source, tailStart, source.byteLength - tailStart));
  const at = findEnd(tail);
  if (at === undefined) return fail('the zip directory is missing at the end; is the file cut off?');
  const hasLocator = at >= LOCATOR64_BYTES && tail.getUint32(at - LOCATOR64_BYTES, true) === SIGNATURES.locator64;
  const end = tailStart + at;
  if (hasLocator) return checkDirectory(source, ...(await readEnd64(source, tail, at - LOCATOR64_BYTES, tailStart)));
  const disks = tail.getUint32(at + 4, true);
  const [here, count] = [tail.getUint16(at + 8, true), tail.getUint16(at + 10, true)];
  if (disks !== 0 || here !== count) return fail('zip directory is spread over several files');
  return checkDirectory(source, { count, byteLength: tail.getUint32(at + 12, true), start: tail.getUint32(at + 16, true) }, end);
}

/** The last place where an end record's comment reaches exactly to the end of the file. */
function findEnd(tail: DataView): number | undefined {
  for (let at = tail.byteLength - END_BYTES; at >= 0; at--) {
    if (tail.getUint32(at, true) === SIGNATURES.end && tail.getUint16(at + 20, true) === tail.byteLength - at - END_BYTES) return at;
  }
  return undefined;
}

async function readEnd64(source: ByteSource, tail: DataView, at: number, tailStart: number): Promise<[Directory, number]> {
  const fail = failer(source.name);
  const start = safe(tail.getBigUint64(at + 8, true));
  if (start + END64_BYTES > tailStart + at) return fail(`zip64 directory end at byte ${start} overlaps its locator`);
  const end = viewOf(await readBytes(source, start, END64_BYTES));
  if (end.getUint32(0, true) !== SIGNATURES.end64) return fail(`no zip64 directory end at byte ${start}`);
  const byteLength = 12 + safe(end.getBigUint64(4, true));
  if (start + byteLength !== tailStart + at) return fail(`zip64 directory end of ${byteLength} bytes at byte ${start} misses its locator`);
  const here = end.getBigUint64(24, true);
  const count = end.getBigUint64(32, true);
  if (end.getBigUint64(16, true) !== 0n || here !== count) return fail('zip directory is spread over several files');
  return [{ count: safe(count), byteLength: safe(end.getBigUint64(40, true)), start: safe(end.getBigUint64(48, true)) }, start];
}

function checkDirectory(source: ByteSource, directory: Directory, end: number): Directory {
  const fail = failer(source.name);
  const { start, byteLength, count } = directory;
  if (count > MAX_ZIP_ENTRIES) return fail(`zip directory of ${count} entries, at most ${MAX_ZIP_ENTRIES} are read`);
  if (byteLength > MAX_ZIP_DIRECTORY_BYTES)
    return fail(`zip directory of ${byteLength} bytes, at most ${MAX_ZIP_DIRECTORY_BYTES} are read`);
  if (start + byteLength !== end) return fail(`zip directory at byte ${start} has ${byteLength} bytes, it should end at byte ${end}`);
  return directory;
}

function parseDirectory(file: string, bytes: Uint8Array, { count, start }: Directory): Listed[] {
  const fail = failer(file);
  const view = viewOf(bytes);
  const listed: Listed[] = [];
  let at = 0;
  while (at < bytes.length) {
    const isEntry = at + ENTRY_BYTES <= bytes.length && view.getUint32(at, true) === SIGNATURES.entry;
    if (!isEntry) return fail(`no entry of the zip directory at byte ${start + at}`);
    const [nameLength, extraLength, commentLength] = [28, 30, 32].map((field) => view.getUint16(at + field, true)) as [
      number,
      number,
      number,
    ];
    const next = at + ENTRY_BYTES + nameLength + extraLength + commentLength;
    if (next > bytes.length) return fail(`entry of the zip directory at byte ${start + at} leaves the directory`);
    const nameBytes = bytes.subarray(at + ENTRY_BYTES, at + ENTRY_BYTES + nameLength);
    const extraStart = at + ENTRY_BYTES + nameLength;
    listed.push(
      parseListed(file, new DataView(view.buffer, view.byteOffset + at, ENTRY_BYTES), nameBytes, bytes.subarray(extraStart, next)),
    );
    at = next;
  }
  if (listed.length !== count) return fail(`zip directory has ${listed.length} entries, its end says ${count}`);
  return listed;
}

function parseListed(file: string, header: DataView, nameBytes: Uint8Array, extra: Uint8Array): Listed {
  const name = new TextDecoder().decode(nameBytes);
  const fail = (problem: string): never => failer(file)(`zip entry ${quote(name)}: ${problem}`);
  if (nameBytes.length === 0 || nameBytes.length > MAX_NAME_LENGTH)
    return fail(`name of ${nameBytes.length} bytes, 1 to ${MAX_NAME_LENGTH} are read`);
  if (header.getUint16(8, true) & ENCRYPTED) return fail('is encrypted');
  const method = header.getUint16(10, true);
  if (method !== 0) return fail(`is compressed (method ${method}); PyTorch stores its entries, so the file was packed by something else`);
  if (header.getUint16(34, true) !== 0) return fail('lies in another file');
  const fields = [24, 20, 42].map((field) => header.getUint32(field, true)); // size, size in the file, place
  const wide = fields.includes(IN_ZIP64) ? zip64Numbers(extra) : [];
  const [size, packed, headerStart] = fields.map((value) => (value === IN_ZIP64 ? wide.shift() : value));
  if (size === undefined || packed === undefined || headerStart === undefined) return fail('its zip64 field is missing or too short');
  if (size !== packed) return fail(`has ${size} bytes, but takes ${packed} in the file`);
  return { name, nameBytes, byteLength: size, headerStart };
}

/** The numbers of the zip64 field among an entry's extra fields; none when it has no such field. */
function zip64Numbers(extra: Uint8Array): number[] {
  const view = viewOf(extra);
  for (let at = 0; at + 4 <= extra.length;) {
    const [id, length] = [view.getUint16(at, true), view.getUint16(at + 2, true)];
    const end = Math.min(at + 4 + length, extra.length);
    if (id !== 1) {
      at = end;
      continue;
    }
    const numbers: number[] = [];
    for (let field = at + 4; field + 8 <= end; field += 8) numbers.push(safe(view.getBigUint64(field, true)));
    return numbers;
  }
  return [];
}

/** Reads the local header, behind which the content lies. `limit` is where the next thing begins. */
async function locate(source: ByteSource, { name, nameBytes, byteLength, headerStart }: Listed, limit: number): Promise<ZipEntry> {
  const fail = (problem: string): never => failer(source.name)(`zip entry ${quote(name)}: ${problem}`);
  const known = LOCAL_BYTES + nameBytes.length;
  if (headerStart + known + byteLength > limit)
    return fail(`takes ${byteLength} bytes from byte ${headerStart + known} on and overlaps what begins at byte ${limit}`);
  const bytes = await readBytes(source, headerStart, known);
  const header = viewOf(bytes);
  if (header.getUint32(0, true) !== SIGNATURES.local) return fail(`no local header at byte ${headerStart}`);
  const same = header.getUint16(26, true) === nameBytes.length && Buffer.compare(bytes.subarray(LOCAL_BYTES), nameBytes) === 0;
  if (!same) return fail(`its local header at byte ${headerStart} has another name`);
  if (header.getUint16(8, true) !== 0) return fail(`its local header at byte ${headerStart} says that it is compressed`);
  const start = headerStart + known + header.getUint16(28, true);
  if (start + byteLength > limit) return fail(`takes ${byteLength} bytes from byte ${start} on and overlaps what begins at byte ${limit}`);
  return { name, start, byteLength };
}

async function readBytes(source: ByteSource, start: number, byteLength: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLength);
  await source.read(start, bytes);
  return bytes;
}

const viewOf = (bytes: Uint8Array): DataView => new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
/** Numbers above 2^53 lose digits, and stay far too large for any file. */
const safe = (value: bigint): number => Number(value);
const failer =
  (file: string) =>
  (problem: string): never => {
    throw new FormatError(file, problem);
  };
