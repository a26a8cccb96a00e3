import { UsageError } from '../../util/errors.ts';
import { MAX_GGUF_ALIGNMENT, MAX_GGUF_KEY_BYTES, MAX_GGUF_RANK } from './gguf-limits.ts';
import {
  ALIGNMENT_KEY,
  alignUp,
  DEFAULT_ALIGNMENT,
  type GgufDtype,
  type GgufNumberType,
  type GgufScalarType,
  TENSOR_TYPE_IDS,
  tensorBytes,
  VALUE_TYPES,
} from './gguf-types.ts';

/** Value of one type of metadata. */
type ValueOf<T extends GgufScalarType> = T extends 'string' ? string : T extends 'bool' ? boolean : number | bigint;

/** A value with its type in the file: `{ type: 'u32', value: 32 }`, `{ type: 'string[]', value: ['a', 'b'] }`. */
export type GgufEntry = {
  [T in GgufScalarType]:
    | { readonly type: T; readonly value: ValueOf<T> }
    | { readonly type: `${T}[]`; readonly value: readonly ValueOf<T>[] };
}[GgufScalarType];

/** A tensor to be written, `shape` outermost first. */
export interface GgufTensor {
  readonly name: string;
  readonly dtype: GgufDtype;
  readonly shape: readonly number[];
}

export interface GgufContent {
  /** Written in this order. `general.alignment` is added where it is needed. */
  readonly metadata: ReadonlyMap<string, GgufEntry>;
  /** In the order of their bytes. */
  readonly tensors: readonly GgufTensor[];
  /** Tensors start at multiples of it, in bytes: a power of two from 8 on. A page by default, so that weights can be read past the page cache. */
  readonly alignment?: number;
}

export interface GgufLayout {
  /** Everything in front of the first tensor, padding included. */
  readonly header: Uint8Array;
  /** Where each tensor starts, in bytes from the start of the file; what lies between is padding. */
  readonly offsets: readonly number[];
  /** Of the whole file; the last tensor is padded too, as ggml expects. */
  readonly totalBytes: number;
}

/** A page of memory and of most disks. */
const PAGE_BYTES = 4096;
/** The newest version, which differs from 2 in nothing but that it may be big-endian. */
const VERSION = 3;
const MAGIC = 'GGUF';
/** Of a tensor: ggml has room for 64 bytes with the zero that ends it. */
const MAX_NAME_BYTES = 63;
/** Bits and sign of the integer types. */
const INTEGERS: Readonly<Partial<Record<GgufNumberType, readonly [bits: number, signed: boolean]>>> = {
  u8: [8, false],
  i8: [8, true],
  u16: [16, false],
  i16: [16, true],
  u32: [32, false],
  i32: [32, true],
  u64: [64, false],
  i64: [64, true],
};

/**
 * The header of a GGUF file and where its tensors belong: the same content gives the same bytes. Whoever writes the file puts each
 * tensor at its offset and zeros between.
 * @throws {UsageError} naming the key or tensor, when its value is not of its type, or a GGUF file cannot hold it
 */
export function encodeGgufHeader({ metadata, tensors, alignment = PAGE_BYTES }: GgufContent): GgufLayout {
  if (alignment < 8 || alignment > MAX_GGUF_ALIGNMENT || !Number.isInteger(Math.log2(alignment)))
    throw new UsageError(`alignment ${alignment}: a power of two from 8 to ${MAX_GGUF_ALIGNMENT} expected`);
  if (metadata.has(ALIGNMENT_KEY)) throw new UsageError(`metadata has ${ALIGNMENT_KEY}; it is written from the alignment`);
  const entries = new Map(metadata);
  if (alignment !== DEFAULT_ALIGNMENT) entries.set(ALIGNMENT_KEY, { type: 'u32', value: alignment });
  const out = new ByteWriter();
  out.bytes(Buffer.from(MAGIC, 'latin1'));
  out.number('u32', VERSION);
  out.number('u64', tensors.length);
  out.number('u64', entries.size);
  for (const [key, entry] of entries) writeEntry(out, key, entry);
  const starts = writeTable(out, tensors, alignment);
  const header = out.padded(alignment);
  return { header, offsets: starts.offsets.map((offset) => header.length + offset), totalBytes: header.length + starts.totalBytes };
}

function writeEntry(out: ByteWriter, key: string, { type, value }: GgufEntry): void {
  const keyBytes = Buffer.byteLength(key);
  if (keyBytes < 1 || keyBytes > MAX_GGUF_KEY_BYTES)
    throw new UsageError(`metadata has a key of ${keyBytes} bytes, 1 to ${MAX_GGUF_KEY_BYTES} expected`);
  out.string(key);
  if (!type.endsWith('[]')) {
    out.number('u32', VALUE_TYPES[type as GgufScalarType].id);
    return writeScalar(out, key, type as GgufScalarType, value);
  }
  if (!Array.isArray(value)) throw new UsageError(`metadata ${key}: ${type} expected, got ${typeof value}`);
  const elementType = type.slice(0, -2) as GgufScalarType;
  out.number('u32', VALUE_TYPES.array.id);
  out.number('u32', VALUE_TYPES[elementType].id);
  out.number('u64', value.length);
  for (const element of value as readonly unknown[]) writeScalar(out, key, elementType, element);
}

function writeScalar(out: ByteWriter, key: string, type: GgufScalarType, value: unknown): void {
  if (type === 'string' && typeof value === 'string') return out.string(value);
  if (type === 'bool' && typeof value === 'boolean') return out.number('u8', Number(value));
  if (type === 'string' || type === 'bool' || !isOfType(type, value))
    throw new UsageError(`metadata ${key}: ${String(value)} is no ${type}`);
  out.number(type, value);
}

function isOfType(type: GgufNumberType, value: unknown): value is number | bigint {
  const integer = INTEGERS[type];
  if (!integer) return typeof value === 'number';
  if (typeof value !== 'bigint' && !Number.isSafeInteger(value)) return false;
  const [bits, signed] = integer;
  const exact = BigInt(value as number | bigint);
  return exact === (signed ? BigInt.asIntN(bits, exact) : BigInt.asUintN(bits, exact));
}

/** @returns offsets and size counted from the end of the header */
function writeTable(out: ByteWriter, tensors: readonly GgufTensor[], alignment: number): { offsets: number[]; totalBytes: number } {
  const names = new Set<string>();
  const offsets: number[] = [];
  let end = 0;
  for (const { name, dtype, shape } of tensors) {
    const byteLength = checkTensor(names, { name, dtype, shape });
    out.string(name);
    out.number('u32', shape.length);
    for (const size of shape.toReversed()) out.number('u64', size);
    out.number('u32', TENSOR_TYPE_IDS[dtype]);
    out.number('u64', end);
    offsets.push(end);
    end = alignUp(end + byteLength, alignment);
  }
  return { offsets, totalBytes: end };
}

/** @returns the bytes of the tensor */
function checkTensor(names: Set<string>, { name, dtype, shape }: GgufTensor): number {
  const fail = (problem: string): never => {
    throw new UsageError(`tensor ${name}: ${problem}`);
  };
  if (names.has(name)) fail('stands twice');
  names.add(name);
  const nameBytes = Buffer.byteLength(name);
  if (nameBytes < 1 || nameBytes > MAX_NAME_BYTES) fail(`name of ${nameBytes} bytes, 1 to ${MAX_NAME_BYTES} expected`);
  if (shape.length > MAX_GGUF_RANK || !shape.every((size) => Number.isSafeInteger(size) && size > 0))
    fail(`bad shape [${shape.join(', ')}], at most ${MAX_GGUF_RANK} dimensions of at least 1 element expected`);
  const bytes = tensorBytes(dtype, shape);
  return typeof bytes === 'string' ? fail(bytes) : bytes;
}

/** Little-endian bytes in a buffer that grows. */
class ByteWriter {
  #buffer: Buffer = Buffer.alloc(64 << 10);
  #length = 0;

  bytes(bytes: Uint8Array): void {
    this.#reserve(bytes.length);
    this.#buffer.set(bytes, this.#length);
    this.#length += bytes.length;
  }

  /** Length in bytes, then UTF-8. */
  string(text: string): void {
    const bytes = Buffer.from(text, 'utf8');
    this.number('u64', bytes.length);
    this.bytes(bytes);
  }

  number(type: GgufNumberType, value: number | bigint): void {
    const { bytes } = VALUE_TYPES[type];
    this.#reserve(bytes);
    if (type === 'f32') this.#buffer.writeFloatLE(Number(value), this.#length);
    else if (type === 'f64') this.#buffer.writeDoubleLE(Number(value), this.#length);
    else if (bytes === 8) this.#buffer.writeBigUInt64LE(BigInt.asUintN(64, BigInt(value)), this.#length);
    else this.#buffer.writeUIntLE(Number(BigInt.asUintN(8 * bytes, BigInt(value))), this.#length, bytes);
    this.#length += bytes;
  }

  padded(alignment: number): Uint8Array {
    const length = alignUp(this.#length, alignment);
    this.#reserve(length - this.#length);
    return Uint8Array.from(this.#buffer.subarray(0, length));
  }

  /** What lies behind the length stays zero, as padding must be. */
  #reserve(bytes: number): void {
    if (this.#length + bytes <= this.#buffer.length) return;
    const larger = Buffer.alloc(Math.max(2 * this.#buffer.length, this.#length + bytes));
    this.#buffer.copy(larger, 0, 0, this.#length);
    this.#buffer = larger;
  }
}
