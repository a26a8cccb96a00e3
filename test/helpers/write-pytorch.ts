/** Builds files of torch.save byte by byte, so that any part of them may lie. Opcodes are named as in Python's pickletools. */

export type Bytes = readonly number[];

const text = (value: string): Bytes => [...new TextEncoder().encode(value)];

/** Little-endian. */
function le(value: number | bigint, byteLength: number): Bytes {
  return Array.from({ length: byteLength }, (_, i) => Number((BigInt(value) >> BigInt(8 * i)) & 0xffn));
}

export const PROTO: Bytes = [0x80, 2];
export const MARK: Bytes = text('(');
const STOP: Bytes = text('.');
export const NONE: Bytes = text('N');
export const FALSE: Bytes = [0x89];
export const TRUE: Bytes = [0x88];

export const str = (value: string): Bytes => [...text('X'), ...le(text(value).length, 4), ...text(value)];
export const int = (value: number): Bytes => [...text('J'), ...le(value, 4)];
/** LONG1. */
export const long = (value: bigint, byteLength: number): Bytes => [0x8a, byteLength, ...le(value, byteLength)];
export const global = (module: string, name: string): Bytes => text(`c${module}\n${name}\n`);
export const tuple = (...items: Bytes[]): Bytes => [...MARK, ...items.flat(), ...text('t')];
export const list = (...items: Bytes[]): Bytes => [...text(']('), ...items.flat(), ...text('e')];
export const ints = (...values: number[]): Bytes => tuple(...values.map(int));
export const reduce = (callee: Bytes, args: Bytes): Bytes => [...callee, ...args, ...text('R')];
export const build = (target: Bytes, state: Bytes): Bytes => [...target, ...state, ...text('b')];
export const orderedDict = (): Bytes => reduce(global('collections', 'OrderedDict'), text(')'));

/** In batches of 1000 items, as Python writes them. */
export function dict(entries: Readonly<Record<string, Bytes>>, target: Bytes = text('}')): Bytes {
  const items = Object.entries(entries).map(([key, value]) => [...str(key), ...value]);
  const batches = Array.from({ length: Math.ceil(items.length / 1000) }, (_, i) => items.slice(i * 1000, i * 1000 + 1000));
  return [target, ...batches.map((batch) => [...MARK, ...batch.flat(), ...text('u')])].flat();
}

export const pickle = (object: Bytes, proto: Bytes = PROTO): Bytes => [...proto, ...object, ...STOP];

export function storage(key: string, count: number, { type = 'FloatStorage', module = 'torch', view = [] as Bytes } = {}): Bytes {
  return [...tuple(str('storage'), global(module, type), str(key), str('cpu'), int(count), view), ...text('Q')];
}

/** `_rebuild_tensor_v2`; row-major strides if none are given. */
export function tensor(of: Bytes, shape: readonly number[], strides: readonly number[] = rowMajor(shape), offset = 0): Bytes {
  const args = tuple(of, int(offset), ints(...shape), ints(...strides), FALSE, orderedDict());
  return reduce(global('torch._utils', '_rebuild_tensor_v2'), args);
}

const rowMajor = (shape: readonly number[]): number[] => shape.map((_, i) => shape.slice(i + 1).reduce((product, n) => product * n, 1));

/** One entry of a zip file; what is not given is true. */
export interface ZipPart {
  readonly name: string;
  readonly data: Bytes;
  readonly method?: number;
  readonly flags?: number;
  /** What the directory says. */
  readonly claimed?: { readonly name?: string; readonly byteLength?: number; readonly packed?: number; readonly headerStart?: number };
}

export interface ZipLies {
  /** Entries that the end says there are. */
  readonly count?: number;
  readonly directoryStart?: number;
  readonly directoryBytes?: number;
  /** Numbers of the directory and of its end stand in zip64 fields. */
  readonly zip64?: boolean;
  readonly comment?: string;
}

const FULL = 0xffffffff;

export function zip(parts: readonly ZipPart[], lies: ZipLies = {}): Uint8Array {
  const { zip64 = false } = lies;
  const locals: Uint8Array[] = [];
  const directory: number[] = [];
  let start = 0;
  for (const { name, data, method = 0, flags = 0x800, claimed = {} } of parts) {
    const { byteLength = data.length, packed = byteLength, headerStart = start } = claimed;
    directory.push(...directoryEntry({ name: claimed.name ?? name, flags, method, byteLength, packed, headerStart, zip64 }));
    const padding = le(0, 5);
    const fields = [le(0x04034b50, 4), le(0, 2), le(flags, 2), le(method, 2), le(0, 8), le(data.length, 4), le(data.length, 4)];
    const header = [...fields.flat(), ...le(text(name).length, 2), ...le(padding.length, 2), ...text(name), ...padding];
    locals.push(Uint8Array.from(header), Uint8Array.from(data));
    start += header.length + data.length;
  }
  return Buffer.concat([...locals, Uint8Array.from(directory), zipEnd(start, directory.length, parts.length, lies)]);
}

function zipEnd(end: number, length: number, entries: number, { zip64 = false, comment = '', ...lies }: ZipLies): Uint8Array {
  const { count = entries, directoryStart = end, directoryBytes = length } = lies;
  const wide = [
    [le(0x06064b50, 4), le(44, 8), le(0, 4), le(0, 8), le(count, 8), le(count, 8), le(directoryBytes, 8), le(directoryStart, 8)],
    [le(0x07064b50, 4), le(0, 4), le(end + length, 8), le(1, 4)],
  ];
  const field = (value: number, byteLength: number): Bytes => le(zip64 ? FULL : value, byteLength);
  const narrow = [le(0x06054b50, 4), le(0, 4), field(count, 2), field(count, 2), field(directoryBytes, 4), field(directoryStart, 4)];
  return Uint8Array.from([...(zip64 ? wide.flat(2) : []), ...narrow.flat(), ...le(text(comment).length, 2), ...text(comment)]);
}

interface DirectoryEntry {
  readonly name: string;
  readonly flags: number;
  readonly method: number;
  readonly byteLength: number;
  readonly packed: number;
  readonly headerStart: number;
  readonly zip64: boolean;
}

function directoryEntry({ name, flags, method, byteLength, packed, headerStart, zip64 }: DirectoryEntry): Bytes {
  const numbers = [byteLength, packed, headerStart];
  const extra = zip64 ? [...le(1, 2), ...le(24, 2), ...numbers.flatMap((n) => le(n, 8))] : [];
  const field = (value: number): Bytes => le(zip64 ? FULL : value, 4);
  const fields = [le(0x02014b50, 4), le(0, 4), le(flags, 2), le(method, 2), le(0, 8), field(packed), field(byteLength)];
  const lengths = [le(text(name).length, 2), le(extra.length, 2), le(0, 10), field(headerStart)];
  return [...fields.flat(), ...lengths.flat(), ...text(name), ...extra];
}

export interface TorchZip {
  /** What the pickle holds. */
  readonly object: Bytes;
  /** By key. */
  readonly storages?: Readonly<Record<string, Bytes>>;
  readonly byteOrder?: string;
  readonly extra?: readonly ZipPart[];
}

/** The entries of a zip file as torch.save writes it. */
export function torchParts({ object, storages = {}, byteOrder = 'little', extra = [] }: TorchZip): ZipPart[] {
  return [
    { name: 'archive/data.pkl', data: pickle(object) },
    { name: 'archive/byteorder', data: text(byteOrder) },
    ...Object.entries(storages).map(([key, data]) => ({ name: `archive/data/${key}`, data })),
    { name: 'archive/version', data: text('3\n') },
    ...extra,
  ];
}

export const torchZip = (content: TorchZip, lies?: ZipLies): Uint8Array => zip(torchParts(content), lies);

export const f32Bytes = (values: readonly number[]): Bytes => [...new Uint8Array(Float32Array.from(values).buffer)];

export interface TorchLegacy {
  readonly object: Bytes;
  /** Key, element count, elements. */
  readonly storages?: readonly (readonly [string, number | bigint, Bytes])[];
  readonly magic?: Bytes;
  readonly version?: Bytes;
  readonly machine?: Bytes;
  readonly keys?: Bytes;
}

/** A file of torch.save before PyTorch 1.6. */
export function torchLegacy({ object, storages = [], ...rest }: TorchLegacy): Uint8Array {
  const {
    magic = long(0x1950a86a20f9469cfc6cn, 10),
    version = int(1001),
    machine = dict({ protocol_version: int(1001), little_endian: TRUE, type_sizes: dict({ short: int(2) }) }),
    keys = list(...storages.map(([key]) => str(key))),
  } = rest;
  const pickles = [magic, version, machine, object, keys].flatMap((part) => pickle(part));
  return Uint8Array.from([...pickles, ...storages.flatMap(([, count, data]) => [...le(count, 8), ...data])]);
}
