import { FormatError } from '../util/errors.ts';
import { MAX_PICKLE_STRING_BYTES } from './limits.ts';
import { quote } from './quote.ts';

const UTF8 = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true });

/** The bytes at hand end inside a pickle. More of the file may help. */
export class TruncatedPickleError extends FormatError {}

/** Reads a pickle's parts one after the other, and names the byte in its messages. */
export class PickleCursor {
  readonly file: string;
  readonly #bytes: Uint8Array;
  readonly #view: DataView;
  readonly #base: number;
  #at = 0;
  #opcodeAt = 0;

  /** `base` is where `bytes` begin in the file. */
  constructor(file: string, bytes: Uint8Array, base: number) {
    this.file = file;
    this.#bytes = bytes;
    this.#view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
    this.#base = base;
  }

  /** Bytes from the start of the file. */
  get position(): number {
    return this.#base + this.#at;
  }

  get atEnd(): boolean {
    return this.#at === this.#bytes.length;
  }

  /** @throws {FormatError} always; names the opcode that was read last by its place */
  fail(problem: string): never {
    throw new FormatError(this.file, `pickle at byte ${this.#base + this.#opcodeAt}: ${problem}`, { byte: this.#base + this.#opcodeAt });
  }

  opcode(): number {
    this.#opcodeAt = this.#at;
    return this.uint8();
  }

  uint8(): number {
    return this.#view.getUint8(this.#take(1));
  }

  uint16(): number {
    return this.#view.getUint16(this.#take(2), true);
  }

  uint32(): number {
    return this.#view.getUint32(this.#take(4), true);
  }

  int32(): number {
    return this.#view.getInt32(this.#take(4), true);
  }

  /** Big-endian: the only number of a pickle that is. */
  float64(): number {
    return this.#view.getFloat64(this.#take(8), false);
  }

  /** Two's complement, little-endian; 0 bytes are 0. */
  integer(byteLength: number): number | bigint {
    const start = this.#take(byteLength);
    let value = 0n;
    for (let i = byteLength - 1; i >= 0; i--) value = (value << 8n) | BigInt(this.#bytes[start + i]!);
    const signed = BigInt.asIntN(byteLength * 8, value);
    return signed >= Number.MIN_SAFE_INTEGER && signed <= Number.MAX_SAFE_INTEGER ? Number(signed) : signed;
  }

  skip(byteLength: number): void {
    this.#take(byteLength);
  }

  text(byteLength: number): string {
    if (byteLength > MAX_PICKLE_STRING_BYTES) this.fail(`string of ${byteLength} bytes, at most ${MAX_PICKLE_STRING_BYTES} are read`);
    const start = this.#take(byteLength);
    return this.#decode(start, start + byteLength);
  }

  /** Text up to a line feed, which is passed over. */
  line(): string {
    const window = this.#bytes.subarray(this.#at, this.#at + MAX_PICKLE_STRING_BYTES + 1);
    const length = window.indexOf(0x0a);
    if (length < 0) {
      if (window.length > MAX_PICKLE_STRING_BYTES) this.fail(`line of more than ${MAX_PICKLE_STRING_BYTES} bytes`);
      this.#take(window.length + 1);
    }
    const start = this.#take(length + 1);
    return this.#decode(start, start + length);
  }

  #take(byteLength: number): number {
    const start = this.#at;
    if (start + byteLength > this.#bytes.length) {
      const end = this.#base + this.#bytes.length;
      throw new TruncatedPickleError(this.file, `pickle at byte ${this.#base + this.#opcodeAt}: cut off at byte ${end}`, { byte: end });
    }
    this.#at += byteLength;
    return start;
  }

  #decode(start: number, end: number): string {
    const bytes = this.#bytes.subarray(start, end);
    try {
      return UTF8.decode(bytes);
    } catch {
      return this.fail(`text that is not UTF-8: ${quote(Buffer.from(bytes).toString('latin1'))}`);
    }
  }
}
