/** Writes a GGUF file tensor by tensor, so that a kill at any moment costs little and no file ever half exists. */
import { createHash } from 'node:crypto';
import { type FileHandle, open, rename, rm, stat, statfs } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { GgufDtype } from '../formats/gguf/gguf-types.ts';
import { encodeGgufHeader, type GgufEntry, type GgufLayout } from '../formats/gguf/gguf-writer.ts';
import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { crashPoint } from '../util/crash-point.ts';
import { fileExists, syncFolder } from '../util/durable-file.ts';
import { FlexError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { acquireLock } from '../util/lock.ts';
import { guarded } from '../util/system-errors.ts';
import { formatBytes } from '../util/units.ts';
import { checksumEntries, ChecksumSum, type TensorChecksums, UNKNOWN_CHECKSUMS } from './checksums.ts';
import { ConversionJournal } from './conversion-journal.ts';
import type { OutputTensor } from './output-tensors.ts';
import { PieceReader } from './tensor-pieces.ts';

export interface ModelContent {
  readonly metadata: ReadonlyMap<string, GgufEntry>;
  readonly tensors: readonly OutputTensor[];
}

export interface WriteProgress {
  readonly tensors: { readonly total: number; readonly done: number };
  /** Of the tensors; `reused` are those of `done` that an earlier run had written. */
  readonly bytes: { readonly total: number; readonly done: number; readonly reused: number };
  readonly seconds: number;
}

export interface WriteOptions {
  /** After every piece of a few megabytes. */
  readonly onProgress?: ((progress: WriteProgress) => void) | undefined;
  /** Keeps what was written and rejects with its reason. */
  readonly signal?: AbortSignal | undefined;
  /** Written to disk for good at least so often: what a kill costs at most. Default 256 MiB. */
  readonly syncBytes?: number;
}

const SYNC_BYTES = 256 << 20;

/**
 * Writes `path` whole or not at all. Beside it lie, until it is there, `.part` and `.journal`, with which the next call goes on, and `.lock`.
 * @throws {UsageError} when another process writes the same file
 * @throws {FlexError} `disk-full`, with numbers, before anything is written; {FormatError} when the source is damaged
 */
export async function writeModel(path: string, content: ModelContent, options: WriteOptions = {}): Promise<void> {
  await using lifetime = new Lifetime();
  lifetime.use(await acquireLock(`${path}.lock`, path));
  const { tensors } = content;
  const layout = layoutOf(
    content,
    tensors.map(() => UNKNOWN_CHECKSUMS),
  );
  const part = `${path}.part`;
  const journal = lifetime.use(await openJournal(path, part, createHash('sha256').update(layout.header).digest('hex')));
  await checkRoom(part, layout.totalBytes);
  const handle = await guarded(part, open(part, journal.checksums.length > 0 ? 'r+' : 'w'));
  try {
    await new TensorWriter(handle, part, layout, journal, options).write(tensors);
    await writeAll(handle, part, layoutOf(content, journal.checksums).header, 0);
    await guarded(part, handle.truncate(layout.totalBytes));
    await guarded(part, handle.sync());
  } finally {
    await handle.close();
  }
  crashPoint('conversion-written');
  await rename(part, path);
  await syncFolder(dirname(path));
  crashPoint('conversion-renamed');
  await journal.remove();
}

function layoutOf({ metadata, tensors }: ModelContent, checksums: readonly TensorChecksums[]): GgufLayout {
  const table = tensors.map(({ name, dtype, shape }) => ({ name, shape, dtype: dtype.toUpperCase() as GgufDtype }));
  const entries = checksumEntries(
    checksums,
    table.map(({ dtype }) => dtype),
  );
  return encodeGgufHeader({ metadata: new Map([...metadata, ...entries]), tensors: table });
}

/** A journal without the file that it tells of is worth nothing. */
async function openJournal(path: string, part: string, header: string): Promise<ConversionJournal> {
  const journal = `${path}.journal`;
  if (!(await fileExists(part))) await rm(journal, { force: true });
  return ConversionJournal.open(journal, header);
}

async function checkRoom(part: string, totalBytes: number): Promise<void> {
  const present = await stat(part).then(
    ({ blocks }) => blocks * 512,
    () => 0,
  );
  const facts = await statfs(dirname(part)).catch(() => undefined);
  const needed = Math.max(0, totalBytes - present);
  if (!facts || facts.bavail * facts.bsize >= needed) return;
  const free = facts.bavail * facts.bsize;
  throw new FlexError(
    'disk-full',
    `${part}: ${formatBytes(needed)} are needed, ${formatBytes(free)} are free; choose another disk or type`,
    {
      path: part,
      needed,
      free,
    },
  );
}

class TensorWriter {
  readonly #handle: FileHandle;
  readonly #file: string;
  readonly #layout: GgufLayout;
  readonly #journal: ConversionJournal;
  readonly #options: WriteOptions;
  readonly #reader = new PieceReader();
  /** Checksums of tensors that are written but perhaps not on disk. */
  #unsynced: TensorChecksums[] = [];
  #unsyncedBytes = 0;
  /** The disk takes what was written while the next tensors are worked out. */
  #syncing: Promise<void> = Promise.resolve();

  constructor(handle: FileHandle, file: string, layout: GgufLayout, journal: ConversionJournal, options: WriteOptions) {
    this.#handle = handle;
    this.#file = file;
    this.#layout = layout;
    this.#journal = journal;
    this.#options = options;
  }

  async write(tensors: readonly OutputTensor[]): Promise<void> {
    const sizes = tensors.map(({ dtype, shape }) => byteLengthOf(dtype, elementCount(shape)));
    const sum = (numbers: readonly number[]): number => numbers.reduce((a, b) => a + b, 0);
    const first = this.#journal.checksums.length;
    const reused = sum(sizes.slice(0, first));
    const began = performance.now();
    let done = reused;
    const report = (finished: number, bytes: number): void => {
      done += bytes;
      this.#options.onProgress?.({
        tensors: { total: tensors.length, done: finished },
        bytes: { total: sum(sizes), done, reused },
        seconds: (performance.now() - began) / 1000,
      });
    };
    report(first, 0);
    try {
      for (let i = first; i < tensors.length; i++) {
        await this.#writeTensor(tensors[i]!, this.#layout.offsets[i]!, (bytes) => report(i, bytes));
        if (this.#unsyncedBytes < (this.#options.syncBytes ?? SYNC_BYTES)) continue;
        await this.#syncing;
        this.#sync();
      }
      report(tensors.length, 0);
    } finally {
      await this.#syncing;
      this.#sync();
      await this.#syncing;
    }
  }

  async #writeTensor(tensor: OutputTensor, offset: number, onBytes: (bytes: number) => void): Promise<void> {
    const sum = new ChecksumSum();
    let at = offset;
    for await (const piece of this.#reader.pieces(tensor)) {
      this.#options.signal?.throwIfAborted();
      crashPoint('conversion-piece');
      const written = writeAll(this.#handle, this.#file, piece, at);
      sum.add(piece);
      await written;
      at += piece.byteLength;
      this.#unsyncedBytes += piece.byteLength;
      onBytes(piece.byteLength);
    }
    this.#unsynced.push(sum.result());
  }

  /** Begins to put on disk what was written, and then notes it. */
  #sync(): void {
    const written = this.#unsynced;
    if (written.length === 0) return;
    this.#unsynced = [];
    this.#unsyncedBytes = 0;
    this.#syncing = guarded(this.#file, this.#handle.datasync()).then(() => this.#journal.add(written));
    this.#syncing.catch(() => {}); // whoever waits for it hears of it
  }
}

async function writeAll(handle: FileHandle, file: string, bytes: Uint8Array, position: number): Promise<void> {
  for (let done = 0; done < bytes.byteLength;) {
    done += (await guarded(file, handle.write(bytes, done, bytes.byteLength - done, position + done))).bytesWritten;
  }
}
