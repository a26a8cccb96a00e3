import { isUtf8 } from 'node:buffer';
import { FormatError } from '../../util/errors.ts';
import type { ByteSource } from '../byte-source.ts';
import { MAX_GGUF_HEADER_BYTES } from './gguf-limits.ts';

/** Read first: most headers without a vocabulary fit. */
const FIRST_PIECE_BYTES = 64 << 10;
/** Pieces double up to this: few reads for a long header, and not much read past its end. */
const LAST_PIECE_BYTES = 4 << 20;

/**
 * Reads the start of a file piece by piece, so that a header of any length takes little memory. `fill` makes bytes available, all else
 * takes them: `await cursor.fill(4, what)`, then `cursor.u32()`.
 */
export class GgufCursor {
  readonly #source: ByteSource;
  #window: Buffer = Buffer.alloc(0);
  /** Of the window's first byte in the file. */
  #windowStart = 0;
  /** Next byte, in the window. */
  #at = 0;
  #pieceBytes = FIRST_PIECE_BYTES;

  constructor(source: ByteSource) {
    this.#source = source;
  }

  /** In bytes from the start of the file. */
  get position(): number {
    return this.#windowStart + this.#at;
  }

  /** Bytes of the file behind the position. */
  get remaining(): number {
    return this.#source.byteLength - this.position;
  }

  /** Bytes that can be taken without `fill`. */
  get available(): number {
    return this.#window.length - this.#at;
  }

  fail(problem: string): never {
    throw new FormatError(this.#source.name, problem);
  }

  /** Makes at least `bytes` available. @throws {FormatError} naming `what`, when the file or the limit of headers ends before */
  async fill(bytes: number, what: string): Promise<void> {
    if (this.available >= bytes) return;
    if (bytes > this.remaining) this.fail(`${what} takes ${bytes} bytes at byte ${this.position}, ${this.remaining} are left`);
    if (this.position + bytes > MAX_GGUF_HEADER_BYTES) this.fail(`${what}: header of more than ${MAX_GGUF_HEADER_BYTES} bytes`);
    const next = Buffer.allocUnsafeSlow(Math.min(Math.max(bytes, this.#pieceBytes), this.remaining));
    const kept = this.#window.copy(next, 0, this.#at);
    await this.#source.read(this.position + kept, next.subarray(kept));
    this.#windowStart = this.position;
    this.#window = next;
    this.#at = 0;
    this.#pieceBytes = Math.min(2 * this.#pieceBytes, LAST_PIECE_BYTES);
  }

  /** A value of `bytes` that `read` takes from a buffer. */
  take<T>(bytes: number, read: (buffer: Buffer, at: number) => T): T {
    const at = this.#at;
    this.#at += bytes;
    return read(this.#window, at);
  }

  u32(): number {
    return this.take(4, (buffer, at) => buffer.readUInt32LE(at));
  }

  u64(): bigint {
    return this.take(8, (buffer, at) => buffer.readBigUInt64LE(at));
  }

  /** Text; bytes that are no UTF-8 become U+FFFD. */
  text(bytes: number): string {
    return this.take(bytes, (buffer, at) => buffer.toString('utf8', at, at + bytes));
  }

  /** Text. @throws {FormatError} naming `what`, when it is no UTF-8 */
  strictText(bytes: number, what: string): string {
    const valid = isUtf8(this.#window.subarray(this.#at, this.#at + bytes));
    return valid ? this.text(bytes) : this.fail(`${what} is not UTF-8`);
  }

  /** The length of something, as a u64. @throws {FormatError} naming `what` and `limit`, before anything is allocated */
  async count(what: string, unit: string, limit: number, minBytesEach: number): Promise<number> {
    await this.fill(8, what);
    const count = this.u64();
    if (count > BigInt(limit)) this.fail(`${what} has ${count} ${unit}, at most ${limit} are read`);
    if (Number(count) * minBytesEach > this.remaining)
      this.fail(`${what} has ${count} ${unit}, which cannot be in the ${this.remaining} bytes that are left`);
    return Number(count);
  }
}
