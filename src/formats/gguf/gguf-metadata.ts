import { quote } from '../quote.ts';
import type { GgufCursor } from './gguf-cursor.ts';
import { MAX_GGUF_BYTE_ELEMENTS, MAX_GGUF_ELEMENTS, MAX_GGUF_KEY_BYTES, MAX_GGUF_STRING_BYTES } from './gguf-limits.ts';
import { type GgufNumberType, type GgufScalarType, type GgufValueType, VALUE_TYPES } from './gguf-types.ts';

/** Integers of 64 bits are numbers where that is exact. */
export type GgufScalar = number | bigint | boolean | string;
export type GgufValue = GgufScalar | readonly GgufScalar[];
export type GgufMetadata = ReadonlyMap<string, GgufValue>;
/** By key: how a value is written. */
export type GgufTypes = ReadonlyMap<string, GgufScalarType | `${GgufScalarType}[]`>;

/** Elements of all arrays read so far. */
interface Tally {
  elements: number;
  byteElements: number;
}

const TYPES_BY_ID: ReadonlyMap<number, GgufValueType> = new Map(
  Object.entries(VALUE_TYPES).map(([name, { id }]) => [id, name as GgufValueType]),
);

const READ: Readonly<Record<GgufNumberType, (buffer: Buffer, at: number) => number | bigint>> = {
  u8: (buffer, at) => buffer.readUInt8(at),
  i8: (buffer, at) => buffer.readInt8(at),
  u16: (buffer, at) => buffer.readUInt16LE(at),
  i16: (buffer, at) => buffer.readInt16LE(at),
  u32: (buffer, at) => buffer.readUInt32LE(at),
  i32: (buffer, at) => buffer.readInt32LE(at),
  f32: (buffer, at) => buffer.readFloatLE(at),
  u64: (buffer, at) => toNumber(buffer.readBigUInt64LE(at)),
  i64: (buffer, at) => toNumber(buffer.readBigInt64LE(at)),
  f64: (buffer, at) => buffer.readDoubleLE(at),
};

/** Reads `count` keys with their values and types. @throws {FormatError} naming the key */
export async function readMetadata(cursor: GgufCursor, count: number): Promise<{ metadata: GgufMetadata; types: GgufTypes }> {
  const metadata = new Map<string, GgufValue>();
  const types = new Map<string, GgufScalarType | `${GgufScalarType}[]`>();
  const tally: Tally = { elements: 0, byteElements: 0 };
  for (let i = 0; i < count; i++) {
    const key = await readKey(cursor, `key ${i + 1} of ${count}`);
    const what = `key ${quote(key)}`;
    if (metadata.has(key)) cursor.fail(`${what} stands twice`);
    const { type, value } = await readValue(cursor, what, tally);
    metadata.set(key, value);
    types.set(key, type);
  }
  return { metadata, types };
}

async function readKey(cursor: GgufCursor, what: string): Promise<string> {
  const bytes = await cursor.count(what, 'bytes', MAX_GGUF_KEY_BYTES, 1);
  if (bytes === 0) cursor.fail(`${what} is empty`);
  await cursor.fill(bytes, what);
  return cursor.strictText(bytes, what);
}

interface TypedValue {
  readonly type: GgufScalarType | `${GgufScalarType}[]`;
  readonly value: GgufValue;
}

async function readValue(cursor: GgufCursor, what: string, tally: Tally): Promise<TypedValue> {
  const type = await readType(cursor, what);
  return type === 'array' ? readArray(cursor, what, tally) : { type, value: await readScalar(cursor, type, what) };
}

async function readType(cursor: GgufCursor, what: string): Promise<GgufValueType> {
  await cursor.fill(4, what);
  const id = cursor.u32();
  return TYPES_BY_ID.get(id) ?? cursor.fail(`${what}: unknown type ${id}`);
}

async function readScalar(cursor: GgufCursor, type: GgufScalarType, what: string): Promise<GgufScalar> {
  if (type === 'string') return readString(cursor, what);
  await cursor.fill(VALUE_TYPES[type].bytes, what);
  return takeFixed(cursor, type, what);
}

async function readString(cursor: GgufCursor, what: string): Promise<string> {
  const bytes = await cursor.count(what, 'bytes', MAX_GGUF_STRING_BYTES, 1);
  await cursor.fill(bytes, what);
  return cursor.text(bytes);
}

async function readArray(cursor: GgufCursor, what: string, tally: Tally): Promise<TypedValue> {
  const type = await readType(cursor, what);
  if (type === 'array') return cursor.fail(`${what} is an array of arrays, which is not read`);
  const elementBytes = VALUE_TYPES[type].bytes;
  const count = await cursor.count(what, 'elements', MAX_GGUF_ELEMENTS, elementBytes);
  tally.elements += count;
  if (elementBytes === 1) tally.byteElements += count;
  if (tally.elements > MAX_GGUF_ELEMENTS) cursor.fail(`${what}: arrays of more than ${MAX_GGUF_ELEMENTS} elements together`);
  if (tally.byteElements > MAX_GGUF_BYTE_ELEMENTS)
    cursor.fail(`${what}: arrays of more than ${MAX_GGUF_BYTE_ELEMENTS} elements of one byte together`);
  const value = type === 'string' ? await readStrings(cursor, count, what) : await readFixed(cursor, type, count, what);
  return { type: `${type}[]`, value };
}

/** Waits only where the piece ends: vocabularies have hundreds of thousands of strings. */
async function readStrings(cursor: GgufCursor, count: number, what: string): Promise<string[]> {
  const strings = allocate<string>(count);
  for (let i = 0; i < count; i++) {
    if (cursor.available < 8) await cursor.fill(8, `${what}[${i}]`);
    const bytes = cursor.u64();
    if (bytes > BigInt(MAX_GGUF_STRING_BYTES)) cursor.fail(`${what}[${i}] has ${bytes} bytes, at most ${MAX_GGUF_STRING_BYTES} are read`);
    if (cursor.available < bytes) await cursor.fill(Number(bytes), `${what}[${i}]`);
    strings[i] = cursor.text(Number(bytes));
  }
  return strings;
}

async function readFixed(
  cursor: GgufCursor,
  type: Exclude<GgufScalarType, 'string'>,
  count: number,
  what: string,
): Promise<(number | bigint | boolean)[]> {
  const { bytes } = VALUE_TYPES[type];
  const values = allocate<number | bigint | boolean>(count);
  for (let i = 0; i < count;) {
    await cursor.fill(bytes, `${what}[${i}]`);
    const end = Math.min(count, i + Math.floor(cursor.available / bytes));
    for (; i < end; i++) values[i] = takeFixed(cursor, type, what);
  }
  return values;
}

function takeFixed(cursor: GgufCursor, type: Exclude<GgufScalarType, 'string'>, what: string): number | bigint | boolean {
  if (type !== 'bool') return cursor.take(VALUE_TYPES[type].bytes, READ[type]);
  const value = cursor.take(1, READ.u8);
  return value === 0 || value === 1 ? value === 1 : cursor.fail(`${what} is ${value} as a truth value, 0 or 1 expected`);
}

/** Holes instead of `undefined`: an array that never held anything but numbers keeps them in 8 bytes each, others box them in 24. */
function allocate<T>(count: number): T[] {
  const values: T[] = [];
  values.length = count;
  return values;
}

function toNumber(value: bigint): number | bigint {
  const number = Number(value);
  return Number.isSafeInteger(number) ? number : value;
}
