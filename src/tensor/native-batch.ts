/** Inputs of one micro-batch for the kernels: ids, positions, and the pages of every row. */
import { type Address, addressOf, BATCH_BYTES, encodeBatch, encodeRows } from '../native/kernels.ts';
import { internalError } from '../util/errors.ts';
import type { Batch, BatchNeeds, BatchRow } from './device.ts';
import { isLong, pagesOf, RowBatch } from './row-batch.ts';

/** Of a 32 bit integer. */
const MAX_POSITION = 2 ** 31 - 1;

/** The page lists of layers with one window. The address of `descriptor` stays, what it says changes. */
class NativeRows {
  readonly descriptor = new Uint8Array(BATCH_BYTES);
  #rows: Uint8Array = new Uint8Array();
  #pages = new Int32Array();

  write(rows: readonly BatchRow[], window: number): void {
    const lists = rows.map((row) => pagesOf(row, window));
    this.#pages = Int32Array.from(lists.flat());
    const base = addressOf(this.#pages);
    let [page, first] = [0, 0];
    const encoded = rows.map(({ tokens, start, prompt = Infinity }, i) => {
      const row = { pages: base + BigInt(4 * page), start, first, tokens: tokens.length, prompt: Math.min(prompt, MAX_POSITION) };
      page += lists[i]!.length;
      first += tokens.length;
      return row;
    });
    this.#rows = encodeRows(encoded);
    encodeBatch(this.descriptor, this.#rows, rows.length);
  }
}

export class NativeBatch implements Batch {
  readonly tokens: Int32Array;
  readonly positions: Int32Array;
  readonly #rows: RowBatch;
  readonly #byWindow: ReadonlyMap<number, NativeRows>;
  readonly #lengthLimit: number | undefined;
  readonly #byLength: Int32Array;

  constructor(rows: readonly BatchRow[], { windows = [Infinity], lengthLimit }: BatchNeeds = {}) {
    this.#rows = new RowBatch(rows);
    this.#byWindow = new Map(windows.map((window) => [window, new NativeRows()]));
    this.#lengthLimit = lengthLimit;
    this.tokens = new Int32Array(this.tokenCount);
    this.positions = new Int32Array(this.tokenCount);
    this.#byLength = new Int32Array(lengthLimit === undefined ? 0 : this.tokenCount);
  }

  get key(): string {
    return this.#rows.key;
  }

  get tokenCount(): number {
    return this.#rows.tokenCount;
  }

  /** `flx_batch` for layers with this window. */
  rows(window = Infinity): Address {
    const rows = this.#byWindow.get(window);
    if (!rows)
      throw internalError(`attention with window ${window} reads a batch made for windows ${[...this.#byWindow.keys()].join(', ')}`);
    return addressOf(rows.descriptor);
  }

  /** For each token its row of [short; long]. */
  byLength(limit: number): Int32Array {
    if (limit !== this.#lengthLimit)
      throw internalError(`a choice by ${limit} positions reads a batch made for ${this.#lengthLimit ?? 'none'}`);
    return this.#byLength;
  }

  /** Throws before the first write and after disposal. */
  check(): void {
    this.#rows.rows();
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    await this.#rows.write(rows);
    let next = 0;
    for (const { tokens, start } of rows) {
      this.tokens.set(tokens, next);
      for (let i = 0; i < tokens.length; i++) this.positions[next + i] = start + i;
      next += tokens.length;
    }
    if (this.#lengthLimit !== undefined)
      this.#byLength.set(isLong(rows, this.#lengthLimit).map((long, token) => token + (long ? this.tokenCount : 0)));
    for (const [window, native] of this.#byWindow) native.write(rows, window);
  }

  [Symbol.dispose](): void {
    this.#rows[Symbol.dispose]();
  }
}
