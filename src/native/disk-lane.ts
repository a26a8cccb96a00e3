/**
 * Transfers from and to files on native threads of their own. Node's file system shares four threads with everything else that blocks, computing included, and
 * fast disks want more requests at a time.
 */
import { getSystemErrorName } from 'node:util';
import { type Disk, type Kernels, loadKernels } from './kernels.ts';

/** Transfers under way at a time. A disk of 2.5 GB/s gives 1.6 with 3, all of its rate with 8. */
const THREADS = 8;
/** Ended transfers that are told at once. */
const MOST_DONE = 64;

interface Pending {
  /** Kept while it is read into or written. */
  readonly memory: Uint8Array;
  readonly resolve: (bytes: number) => void;
  readonly reject: (error: Error) => void;
}

let shared: { readonly lane: DiskLane; users: number } | undefined;

export class DiskLane {
  readonly #kernels: Kernels;
  readonly #disk: Disk;
  readonly #pending = new Map<number, Pending>();
  readonly #done = new BigInt64Array(2 * MOST_DONE);
  #lastTicket = 0;
  #waiting = false;

  private constructor(kernels: Kernels, disk: Disk) {
    this.#kernels = kernels;
    this.#disk = disk;
  }

  /** The lane of this process, for one more user; undefined without own kernels, or where the system has no such reads. Every `open` is followed by one `close`. */
  static open(): DiskLane | undefined {
    if (!shared) {
      const kernels = loadKernels();
      const disk = kernels?.diskCreate(THREADS);
      if (!kernels || !disk) return undefined;
      shared = { lane: new DiskLane(kernels, disk), users: 0 };
    }
    shared.users++;
    return shared.lane;
  }

  /** One user less; with the last one the threads end. Its transfers must have ended. */
  close(): void {
    if (!shared || --shared.users > 0) return;
    shared = undefined;
    this.#kernels.diskFree(this.#disk);
  }

  /** Fills `target` from byte `start` of an open file on. @returns bytes, fewer at the end of the file. @throws an error whose code is the system's */
  read(fd: number, start: number, target: Uint8Array): Promise<number> {
    return this.#transfer(target, (ticket) => this.#kernels.diskRead(this.#disk, fd, start, target, target.byteLength, ticket));
  }

  /** Writes all of `bytes` from byte `start` of an open file on. @throws an error whose code is the system's */
  async write(fd: number, start: number, bytes: Uint8Array): Promise<void> {
    await this.#transfer(bytes, (ticket) => this.#kernels.diskWrite(this.#disk, fd, start, bytes, bytes.byteLength, ticket));
  }

  /** Sets room for so many bytes of an open file aside, where the file system can. @throws an error whose code is the system's */
  setAside(fd: number, byteLength: number): void {
    const result = this.#kernels.diskSetAside(fd, byteLength);
    if (result < 0) throw systemError(result);
  }

  #transfer(memory: Uint8Array, begin: (ticket: number) => void): Promise<number> {
    return new Promise((resolve, reject) => {
      const ticket = ++this.#lastTicket;
      this.#pending.set(ticket, { memory, resolve, reject });
      begin(ticket);
      this.#wait();
    });
  }

  #wait(): void {
    if (this.#waiting || this.#pending.size === 0) return;
    this.#waiting = true;
    this.#kernels.diskWait.async(this.#disk, this.#done, MOST_DONE, (error, count) => {
      this.#waiting = false;
      if (error) return this.#fail(error);
      for (let i = 0; i < count; i++) this.#settle(Number(this.#done[2 * i]), Number(this.#done[2 * i + 1]));
      this.#wait();
    });
  }

  #settle(ticket: number, bytes: number): void {
    const { resolve, reject } = this.#pending.get(ticket)!;
    this.#pending.delete(ticket);
    if (bytes >= 0) resolve(bytes);
    else reject(systemError(bytes));
  }

  #fail(error: Error): void {
    for (const { reject } of this.#pending.values()) reject(error);
    this.#pending.clear();
  }
}

/** `errno` as the system has it, negative. */
function systemError(errno: number): Error {
  const code = getSystemErrorName(errno);
  return Object.assign(new Error(`transfer failed with error ${-errno} of the system, ${code}`), { errno, code });
}
