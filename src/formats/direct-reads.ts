import { constants } from 'node:fs';
import { type FileHandle, open } from 'node:fs/promises';
import { DiskLane } from '../native/disk-lane.ts';
import { cachedShare, directBuffer, isAligned } from '../native/page-cache.ts';
import { internalError } from '../util/errors.ts';

/** Offsets, lengths and addresses of direct reads are multiples of this: enough for all disks of today. */
const ALIGNMENT = 4096;
/** Smaller reads are headers and tables, which are read again and belong in the page cache. */
export const LEAST_DIRECT_BYTES: number = 256 << 10;
/** Smaller files are read in a moment, and soon again. */
const LEAST_FILE_BYTES = 64 << 20;
/** From here on the cache is faster than the disk. */
const MOST_CACHED = 0.5;

/**
 * Reads past the page cache. Through it, weights take memory twice and a core-second a gigabyte: as long as reading them from a fast disk, and
 * on the cores that compute meanwhile.
 */
export class DirectReads implements AsyncDisposable {
  readonly #handle: FileHandle;
  readonly #lane = DiskLane.open();
  readonly #free: Uint8Array<ArrayBuffer>[] = [];
  /** Under way. */
  readonly #reads = new Set<Promise<unknown>>();
  #closed = false;

  private constructor(handle: FileHandle) {
    this.#handle = handle;
  }

  /** Undefined where reading the file so is not faster, because it is small or in memory already, or not possible. */
  static async openIfFaster(handle: FileHandle, byteLength: number): Promise<DirectReads | undefined> {
    if (byteLength < LEAST_FILE_BYTES) return undefined;
    const cached = cachedShare(handle.fd, byteLength);
    if (cached === undefined || cached > MOST_CACHED) return undefined;
    return DirectReads.open(`/proc/self/fd/${handle.fd}`); // under its path there may be another file by now
  }

  /** Undefined where the system or the file system has no such reads. */
  static async open(path: string): Promise<DirectReads | undefined> {
    if (process.platform !== 'linux') return undefined;
    const direct = await open(path, constants.O_RDONLY | constants.O_DIRECT).catch(() => undefined);
    return direct && new DirectReads(direct);
  }

  /** Fills `target` as far as the file goes, or only its whole pages. @returns bytes. @throws the system's error */
  async read(start: number, target: Uint8Array): Promise<number> {
    if (start % ALIGNMENT === 0 && target.byteLength >= ALIGNMENT && isAligned(target, ALIGNMENT)) {
      return this.#readPages(start, target.subarray(0, target.byteLength - (target.byteLength % ALIGNMENT)));
    }
    return this.#readAround(start, target);
  }

  /** Waits for the reads under way; later ones fail. */
  async [Symbol.asyncDispose](): Promise<void> {
    if (this.#closed) return;
    this.#closed = true;
    await Promise.allSettled(this.#reads);
    this.#lane?.close();
    await this.#handle.close();
  }

  async #readPages(start: number, target: Uint8Array): Promise<number> {
    if (this.#closed) throw internalError('direct reads: read after dispose');
    const read = this.#lane
      ? this.#lane.read(this.#handle.fd, start, target)
      : this.#handle.read(target, 0, target.byteLength, start).then(({ bytesRead }) => bytesRead);
    this.#reads.add(read);
    try {
      return await read;
    } finally {
      this.#reads.delete(read);
    }
  }

  /** Through a buffer of the pages that `target` lies in. */
  async #readAround(start: number, target: Uint8Array): Promise<number> {
    const first = Math.floor(start / ALIGNMENT) * ALIGNMENT;
    const bytes = Math.ceil((start + target.byteLength - first) / ALIGNMENT) * ALIGNMENT;
    const last = this.#free.pop();
    const buffer = last && last.byteLength >= bytes ? last : directBuffer(bytes);
    try {
      const bytesRead = await this.#readPages(first, buffer.subarray(0, bytes));
      const found = Math.max(0, Math.min(target.byteLength, bytesRead - (start - first)));
      target.set(buffer.subarray(start - first, start - first + found));
      return found;
    } finally {
      this.#free.push(buffer);
    }
  }
}
