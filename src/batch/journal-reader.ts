import { type FileHandle, open } from 'node:fs/promises';
import { internalError } from '../util/errors.ts';
import { parseLine } from './journal-lines.ts';
import type { RowOutcome } from './rows.ts';

/** Rows come nearly in the order in which they are read, so that most lie in the part that was read last. Bytes. */
const WINDOW_BYTES = 256 * 1024;
const NEWLINE = 10;

/** Reads results at known places of a journal. */
export class JournalReader implements AsyncDisposable {
  readonly #path: string;
  readonly #handle: FileHandle;
  #window: Buffer = Buffer.alloc(0);
  #start = 0;

  private constructor(path: string, handle: FileHandle) {
    this.#path = path;
    this.#handle = handle;
  }

  static async open(path: string): Promise<JournalReader> {
    return new JournalReader(path, await open(path, 'r'));
  }

  /** @param offset start of the line of a row */
  async outcome(offset: number): Promise<RowOutcome> {
    const line = parseLine(await this.#line(offset));
    if (line === undefined || 'finished' in line) throw internalError(`${this.#path} has no row at byte ${offset}`);
    return line.outcome;
  }

  async #line(offset: number): Promise<string> {
    for (let size = WINDOW_BYTES; ; size *= 2) {
      const from = offset - this.#start;
      const end = from >= 0 && from < this.#window.length ? this.#window.indexOf(NEWLINE, from) : -1;
      if (end >= 0) return this.#window.toString('utf8', from, end);
      if (this.#start === offset && this.#window.length < size / 2)
        throw internalError(`${this.#path} ends within the row at byte ${offset}`);
      await this.#read(offset, size);
    }
  }

  async #read(offset: number, size: number): Promise<void> {
    const window = Buffer.allocUnsafe(size);
    let length = 0;
    while (length < size) {
      const { bytesRead } = await this.#handle.read(window, length, size - length, offset + length);
      if (bytesRead === 0) break;
      length += bytesRead;
    }
    this.#window = window.subarray(0, length);
    this.#start = offset;
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#handle.close();
  }
}
