/** Files for what has no room in memory. */
import { constants } from 'node:fs';
import { type FileHandle, mkdir, open, readdir, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { FlexError } from '../util/errors.ts';
import { guarded, reason } from '../util/system-errors.ts';
import { DiskLane } from './disk-lane.ts';
import { isAligned } from './page-cache.ts';

/** Offsets, lengths and addresses of transfers past the page cache are multiples of this: enough for all disks of today. */
const ALIGNMENT = 4096;
const NAME = /^flexllmgen-(\d+)-\d+\.spill$/;
const { O_RDWR, O_CREAT, O_EXCL } = constants;

let created = 0;

/**
 * One file, which nobody else sees: where the system allows, its name is gone as soon as it is open, so that nothing remains whatever ends the program.
 * Elsewhere it is removed at the end, and what a killed program left is removed by the next one.
 */
export class SpillFile implements AsyncDisposable {
  readonly path: string;
  readonly byteLength: number;
  readonly #handle: FileHandle;
  /** Past the page cache; undefined where that cannot be. */
  readonly #direct: FileHandle | undefined;
  readonly #lane = DiskLane.open();
  readonly #transfers = new Set<Promise<unknown>>();
  #closed = false;

  private constructor(path: string, byteLength: number, handle: FileHandle, direct: FileHandle | undefined) {
    this.path = path;
    this.byteLength = byteLength;
    this.#handle = handle;
    this.#direct = direct;
  }

  /**
   * In `folder`, which is made. Room for `byteLength` is set aside where the file system can. `direct`: all transfers will be of whole pages of memory.
   * @throws {DiskFullError} {FlexError} naming the folder
   */
  static async create(folder: string, byteLength: number, direct: boolean): Promise<SpillFile> {
    const path = join(folder, `flexllmgen-${process.pid}-${++created}.spill`);
    try {
      await mkdir(folder, { recursive: true });
      await removeStale(folder);
      const handle = await open(path, O_RDWR | O_CREAT | O_EXCL, 0o600);
      const file = new SpillFile(path, byteLength, handle, direct ? await openDirect(path) : undefined);
      try {
        if (process.platform !== 'win32') await rm(path);
        await guarded(path, file.#setAside());
        return file;
      } catch (cause) {
        await file[Symbol.asyncDispose]();
        throw cause;
      }
    } catch (cause) {
      if (cause instanceof FlexError) throw cause;
      throw new FlexError(
        'disk',
        `no file for what has no room in memory could be made in ${folder}: ${reason(cause)}`,
        { folder },
        { cause },
      );
    }
  }

  /** Fills `target` from byte `start` on. @throws {FlexError} naming file and place */
  async read(start: number, target: Uint8Array): Promise<void> {
    const fd = this.#handleOf(start, target);
    const read = this.#lane
      ? this.#lane.read(fd.fd, start, target)
      : fd.read(target, 0, target.byteLength, start).then(({ bytesRead }) => bytesRead);
    const bytes = await this.#track('reading', start, target, read);
    if (bytes < target.byteLength) throw this.#failure('reading', start, target, new Error(`the file ends after ${bytes} bytes`));
  }

  /** @throws {DiskFullError} {FlexError} naming file and place */
  async write(start: number, bytes: Uint8Array): Promise<void> {
    const handle = this.#handleOf(start, bytes);
    await this.#track('writing', start, bytes, this.#lane ? this.#lane.write(handle.fd, start, bytes) : writeAll(handle, start, bytes));
  }

  /** Waits for the transfers under way. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#transfers);
    this.#lane?.close();
    await this.#direct?.close();
    await this.#handle.close();
    if (process.platform === 'win32') await rm(this.path, { force: true });
  }

  async #setAside(): Promise<void> {
    this.#lane?.setAside(this.#handle.fd, this.byteLength);
  }

  #handleOf(start: number, memory: Uint8Array): FileHandle {
    const fits = start % ALIGNMENT === 0 && memory.byteLength % ALIGNMENT === 0 && isAligned(memory, ALIGNMENT);
    return (fits ? this.#direct : undefined) ?? this.#handle;
  }

  async #track<T>(what: string, start: number, memory: Uint8Array, transfer: Promise<T>): Promise<T> {
    const tracked = guarded(this.path, transfer);
    this.#transfers.add(tracked);
    try {
      return await tracked;
    } catch (cause) {
      throw cause instanceof FlexError ? cause : this.#failure(what, start, memory, cause);
    } finally {
      this.#transfers.delete(tracked);
    }
  }

  #failure(what: string, start: number, { byteLength }: Uint8Array, cause: unknown): FlexError {
    return new FlexError(
      'disk',
      `${this.path}: ${what} ${byteLength} bytes at ${start} failed: ${reason(cause)}`,
      { path: this.path },
      { cause },
    );
  }
}

async function openDirect(path: string): Promise<FileHandle | undefined> {
  if (process.platform !== 'linux') return undefined;
  return open(path, constants.O_RDWR | constants.O_DIRECT).catch(() => undefined); // not every file system has it
}

async function writeAll(handle: FileHandle, start: number, bytes: Uint8Array): Promise<void> {
  for (let done = 0; done < bytes.byteLength;)
    done += (await handle.write(bytes, done, bytes.byteLength - done, start + done)).bytesWritten;
}

/** What programs left that were killed, on systems where names of open files stay. */
async function removeStale(folder: string): Promise<void> {
  for (const name of await readdir(folder)) {
    const pid = NAME.exec(name)?.[1];
    if (pid !== undefined && !isAlive(Number(pid))) await rm(join(folder, name), { force: true });
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return error instanceof Error && 'code' in error && error.code === 'EPERM';
  }
}
