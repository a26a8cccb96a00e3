/**
 * The files of torch.save before PyTorch 1.6: five pickles (magic number, protocol, machine, dictionary, storage keys), then for each key an
 * 8-byte element count and the elements.
 * Source: `torch/serialization.py`, `_legacy_save` and `_legacy_load`.
 */
import { FormatError } from '../util/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { MAX_PICKLE_BYTES } from './limits.ts';
import { PickleCursor, TruncatedPickleError } from './pickle-cursor.ts';
import { type Unpickled, unpickle } from './pickle.ts';
import { describeKind, type PickledStorage, type PickleDict, type PickleValue } from './pickle-values.ts';
import { type PytorchTable, storageBytes, tensorEntries } from './pytorch-table.ts';
import { quote } from './quote.ts';

const MAGIC_NUMBER = 0x1950a86a20f9469cfc6cn;
const PROTOCOL_VERSION = 1001;
/** Read at first; enough for the pickles of most models. */
const FIRST_BYTES = 1 << 20;
/** Growth when the pickles turn out to be longer, so that reading them again costs a third more in all. */
const GROWTH = 4;
const COUNT_BYTES = 8;

interface Head extends Unpickled {
  readonly keys: readonly string[];
  /** Where the first storage begins. */
  readonly end: number;
}

/** @throws {FormatError} */
export async function readPytorchLegacy(source: ByteSource): Promise<PytorchTable> {
  const { value, storages, keys, end } = await readHead(source);
  const starts = await locateStorages(source, storages, keys, end);
  const startOf = (storage: PickledStorage): number => {
    const start = starts.get(storage);
    if (start === undefined)
      throw new FormatError(source.name, `storage ${quote(storage.key)} is not among the ${keys.length} of the file`);
    return start;
  };
  return { entries: tensorEntries(source.name, value, startOf), headerBytes: end };
}

/** Nothing says how long the pickles are, so they are read from ever longer beginnings of the file. */
async function readHead(source: ByteSource): Promise<Head> {
  for (let size = FIRST_BYTES; ; size *= GROWTH) {
    const bytes = new Uint8Array(Math.min(size, source.byteLength, MAX_PICKLE_BYTES));
    await source.read(0, bytes);
    try {
      return parseHead(source.name, bytes);
    } catch (cause) {
      if (!(cause instanceof TruncatedPickleError) || bytes.length === source.byteLength) throw cause;
      if (bytes.length === MAX_PICKLE_BYTES)
        throw new FormatError(source.name, `pickles do not end within ${MAX_PICKLE_BYTES} bytes`, {}, { cause });
    }
  }
}

function parseHead(file: string, bytes: Uint8Array): Head {
  const cursor = new PickleCursor(file, bytes, 0);
  const fail = (problem: string): never => {
    throw new FormatError(file, problem);
  };
  if (unpickle(cursor).value !== MAGIC_NUMBER) fail('is a pickle, but not one that torch.save wrote (magic number)');
  const version = unpickle(cursor).value;
  if (version !== PROTOCOL_VERSION)
    fail(`PyTorch's format version is ${typeof version === 'number' ? version : describeKind(version)}, only ${PROTOCOL_VERSION} is read`);
  checkMachine(unpickle(cursor).value, fail);
  const object = unpickle(cursor);
  return { ...object, keys: readKeys(unpickle(cursor).value, fail), end: cursor.position };
}

function checkMachine(machine: PickleValue, fail: (problem: string) => never): void {
  if (typeof machine !== 'object' || machine?.kind !== 'dict')
    return fail(`says ${describeKind(machine)} of the machine that wrote it, a dictionary is expected`);
  if (lookUp(machine, 'little_endian') !== true) fail('was written on a big-endian machine (little_endian is not True)');
}

function readKeys(list: PickleValue, fail: (problem: string) => never): string[] {
  if (typeof list !== 'object' || list?.kind !== 'list') return fail(`has ${describeKind(list)} of storage keys, a list is expected`);
  const keys = list.items.filter((key) => typeof key === 'string');
  if (keys.length !== list.items.length) return fail('has a storage key that is not a string');
  return keys;
}

/** Where each storage's elements begin. Together they reach exactly to the end of the file. */
async function locateStorages(
  source: ByteSource,
  storages: ReadonlyMap<string, PickledStorage>,
  keys: readonly string[],
  from: number,
): Promise<Map<PickledStorage, number>> {
  const starts = new Map<PickledStorage, number>();
  const bytes = new Uint8Array(COUNT_BYTES);
  let at = from;
  for (const key of keys) {
    const fail = (problem: string): never => {
      throw new FormatError(source.name, `storage ${quote(key)} at byte ${at}: ${problem}`);
    };
    const storage = storages.get(key);
    if (!storage) return fail('no tensor mentions it');
    if (starts.has(storage)) return fail('stands twice in the list of keys');
    if (at + COUNT_BYTES + storageBytes(storage) > source.byteLength)
      return fail(`${storage.count} elements of ${storage.dtype} leave the file of ${source.byteLength} bytes`);
    await source.read(at, bytes);
    const count = new DataView(bytes.buffer).getBigInt64(0, true);
    if (count !== BigInt(storage.count)) return fail(`has ${count} elements, the dictionary says ${storage.count}`);
    starts.set(storage, at + COUNT_BYTES);
    at += COUNT_BYTES + storageBytes(storage);
  }
  if (at !== source.byteLength) throw new FormatError(source.name, `storages end at byte ${at}, the file at ${source.byteLength}`);
  return starts;
}

function lookUp({ items }: PickleDict, key: string): PickleValue | undefined {
  for (let i = 0; i < items.length; i += 2) if (items[i] === key) return items[i + 1];
  return undefined;
}
