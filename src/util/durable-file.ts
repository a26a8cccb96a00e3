import { createHash } from 'node:crypto';
import { createReadStream, writeSync } from 'node:fs';
import { type FileHandle, open, rename, rm, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { crashPoint } from './crash-point.ts';
import { errorCode, guarded } from './system-errors.ts';

/** Length and SHA-256 of a file's content. */
export interface Digest {
  readonly bytes: number;
  readonly sha256: string;
}

/** Large enough that system calls do not matter, small enough that memory does not. */
const WRITE_BYTES = 256 * 1024;

/** Appends text to one file through a buffer. Nothing is on disk before `sync`. */
export class DurableWriter implements AsyncDisposable {
  readonly path: string;
  readonly #handle: FileHandle;
  #buffer: string[] = [];
  #buffered = 0;
  #position: number;
  readonly #hash = createHash('sha256');

  private constructor(path: string, handle: FileHandle, position: number) {
    this.path = path;
    this.#handle = handle;
    this.#position = position;
  }

  /** An empty file, in place of one that is there. */
  static async create(path: string): Promise<DurableWriter> {
    return new DurableWriter(path, await guarded(path, open(path, 'w')), 0);
  }

  /** Goes on at byte `position` of an existing file; what follows is cut off. */
  static async resume(path: string, position: number): Promise<DurableWriter> {
    const handle = await open(path, 'r+');
    await handle.truncate(position);
    return new DurableWriter(path, handle, position);
  }

  /** Bytes written and buffered. */
  get position(): number {
    return this.#position + this.#buffered;
  }

  get buffered(): number {
    return this.#buffered;
  }

  /** Of everything written since `create`. */
  digest(): Digest {
    return { bytes: this.#position, sha256: this.#hash.copy().digest('hex') };
  }

  /** Buffers text; `write` or `writeWhenLarge` moves it on. */
  add(text: string): void {
    this.#buffer.push(text);
    this.#buffered += Buffer.byteLength(text);
  }

  async writeWhenLarge(): Promise<void> {
    if (this.#buffered >= WRITE_BYTES) await this.write();
  }

  /** @param crashName name of the crash point in the middle of this write */
  async write(crashName?: string): Promise<void> {
    const bytes = Buffer.from(this.#buffer.join(''));
    this.#buffer = [];
    this.#buffered = 0;
    const start = this.#position;
    this.#position += bytes.length;
    if (crashName !== undefined) crashPoint(crashName, () => writeSync(this.#handle.fd, bytes, 0, middleOfLine(bytes), start));
    this.#hash.update(bytes);
    for (let done = 0; done < bytes.length;) {
      const { bytesWritten } = await guarded(this.path, this.#handle.write(bytes, done, bytes.length - done, start + done));
      done += bytesWritten;
    }
  }

  async sync(): Promise<void> {
    await guarded(this.path, this.#handle.datasync());
  }

  /** Cuts the file after a failed write. */
  async truncate(position: number): Promise<void> {
    this.#buffer = [];
    this.#buffered = 0;
    await this.#handle.truncate(position);
    this.#position = position;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}

/** Half of lines of equal length would end with one. */
function middleOfLine(bytes: Buffer): number {
  const middle = bytes.length >> 1;
  return bytes[middle - 1] === 0x0a ? middle - 2 : middle;
}

/** Makes a rename or removal in a folder permanent. Systems that cannot open folders keep them in order themselves. */
export async function syncFolder(path: string): Promise<void> {
  const handle = await open(path, 'r').catch(() => undefined);
  if (handle === undefined) return;
  try {
    await handle.sync().catch(() => {});
  } finally {
    await handle.close();
  }
}

/** Writes a file whole or not at all: who reads it meanwhile sees what was there before. @throws {DiskFullError} */
export async function replaceFile(path: string, pieces: Iterable<string>): Promise<void> {
  const part = `${path}.${process.pid}.part`;
  try {
    await writeWhole(part, pieces);
    await rename(part, path);
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  }
  await syncFolder(dirname(path));
}

/** Closed at the end: systems may refuse to rename a file that is open. */
async function writeWhole(path: string, pieces: Iterable<string>): Promise<void> {
  await using writer = await DurableWriter.create(path);
  for (const piece of pieces) {
    writer.add(piece);
    await writer.writeWhenLarge();
  }
  await writer.write();
  await writer.sync();
}

export async function digestFile(path: string): Promise<Digest> {
  const hash = createHash('sha256');
  let bytes = 0;
  for await (const chunk of createReadStream(path, { highWaterMark: WRITE_BYTES }) as AsyncIterable<Buffer>) {
    hash.update(chunk);
    bytes += chunk.length;
  }
  return { bytes, sha256: hash.digest('hex') };
}

export async function fileExists(path: string): Promise<boolean> {
  return stat(path).then(
    () => true,
    (error: unknown) => {
      if (errorCode(error) === 'ENOENT') return false;
      throw error;
    },
  );
}
