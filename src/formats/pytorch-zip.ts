/**
 * The zip files of torch.save: `NAME/data.pkl` is the pickle, `NAME/data/KEY` the bytes of a storage.
 * Source: `torch/serialization.py`, `_save` and `_load`; `caffe2/serialize/inline_container.cc`.
 */
import { FormatError } from '../util/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { MAX_PICKLE_BYTES } from './limits.ts';
import { PickleCursor } from './pickle-cursor.ts';
import { unpickle } from './pickle.ts';
import type { PickledStorage } from './pickle-values.ts';
import { type PytorchTable, storageBytes, tensorEntries } from './pytorch-table.ts';
import { quote } from './quote.ts';
import { readZip, type ZipEntry } from './zip.ts';

const PICKLE = 'data.pkl';
/** `little` or `big`. */
const MAX_BYTE_ORDER_BYTES = 16;

/** @throws {FormatError} */
export async function readPytorchZip(source: ByteSource): Promise<PytorchTable> {
  const listed = await readZip(source);
  const byName = new Map(listed.map((entry) => [entry.name, entry]));
  const pickle = findPickle(source.name, listed);
  const folder = pickle.name.slice(0, -PICKLE.length);
  if (byName.has(`${folder}constants.pkl`))
    throw new FormatError(source.name, 'is a TorchScript program; the weights alone, as torch.save writes a state_dict, are expected');
  await checkByteOrder(source, byName.get(`${folder}byteorder`));
  const cursor = new PickleCursor(source.name, await readEntry(source, pickle, MAX_PICKLE_BYTES), pickle.start);
  const { value, storages } = unpickle(cursor);
  if (!cursor.atEnd)
    throw new FormatError(source.name, `pickle ends at byte ${cursor.position}, its zip entry at ${pickle.start + pickle.byteLength}`);
  const starts = new Map([...storages.values()].map((storage) => [storage, findStorage(source.name, byName, folder, storage)]));
  return { entries: tensorEntries(source.name, value, (storage) => starts.get(storage)!), headerBytes: cursor.position };
}

function findPickle(file: string, listed: readonly ZipEntry[]): ZipEntry {
  const found = listed.filter(({ name }) => name === PICKLE || name.endsWith(`/${PICKLE}`));
  if (found.length !== 1)
    throw new FormatError(file, `has ${found.length} zip entries named ${PICKLE}, one is expected; was it written by torch.save?`);
  return found[0]!;
}

/** Files before PyTorch 2.1 have no such entry, and no big-endian machine wrote weights then. */
async function checkByteOrder(source: ByteSource, entry: ZipEntry | undefined): Promise<void> {
  if (!entry) return;
  const order = Buffer.from(await readEntry(source, entry, MAX_BYTE_ORDER_BYTES)).toString('latin1');
  if (order !== 'little') throw new FormatError(source.name, `byte order is ${quote(order)}; only "little" is read`);
}

/** Where the storage's bytes begin. */
function findStorage(file: string, byName: ReadonlyMap<string, ZipEntry>, folder: string, storage: PickledStorage): number {
  const entry = byName.get(`${folder}data/${storage.key}`);
  if (!entry) throw new FormatError(file, `storage ${quote(storage.key)} has no zip entry`);
  const expected = storageBytes(storage);
  if (entry.byteLength !== expected)
    throw new FormatError(
      file,
      `storage ${quote(storage.key)} of ${storage.count} ${storage.dtype} takes ${expected} bytes, its zip entry has ${entry.byteLength}`,
    );
  return entry.start;
}

async function readEntry(source: ByteSource, { name, start, byteLength }: ZipEntry, maxBytes: number): Promise<Uint8Array> {
  if (byteLength > maxBytes)
    throw new FormatError(source.name, `zip entry ${quote(name)} has ${byteLength} bytes, at most ${maxBytes} are read`);
  const bytes = new Uint8Array(byteLength);
  await source.read(start, bytes);
  return bytes;
}
