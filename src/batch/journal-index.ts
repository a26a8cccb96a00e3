/** Rows start in a table of this many; it grows by half. */
const FIRST_ROWS = 1024;
/** A row index beyond this comes from a damaged file; it would take 16 GiB of index. */
const MAX_ROWS = 2 ** 30;

/** Where the journal holds the result of each row: 16 bytes per row, whatever the rows hold. */
export class JournalIndex {
  #hashes: BigUint64Array = new BigUint64Array(FIRST_ROWS);
  /** Byte of the journal at which the row's line starts; negative for an error. 0, where the header is, means that there is none. */
  #offsets: Float64Array = new Float64Array(FIRST_ROWS);

  /** A later line of the same row takes the place of an earlier one. */
  set(row: number, hash: bigint, offset: number, failed: boolean): void {
    if (!JournalIndex.holds(row)) throw new RangeError(`row ${row}`);
    if (row >= this.#offsets.length) this.#grow(row + 1);
    this.#hashes[row] = hash;
    this.#offsets[row] = failed ? -offset : offset;
  }

  /** @returns undefined when the row has no result, or one of another content */
  find(row: number, hash: bigint): { readonly offset: number; readonly failed: boolean } | undefined {
    const offset = this.#offsets[row] ?? 0;
    if (offset === 0 || this.#hashes[row] !== hash) return undefined;
    return { offset: Math.abs(offset), failed: offset < 0 };
  }

  /** Of memory. */
  get byteLength(): number {
    return this.#hashes.byteLength + this.#offsets.byteLength;
  }

  static holds(row: number): boolean {
    return Number.isInteger(row) && row >= 0 && row < MAX_ROWS;
  }

  #grow(least: number): void {
    const rows = Math.max(least, Math.ceil(this.#offsets.length * 1.5));
    const hashes = new BigUint64Array(rows);
    const offsets = new Float64Array(rows);
    hashes.set(this.#hashes);
    offsets.set(this.#offsets);
    this.#hashes = hashes;
    this.#offsets = offsets;
  }
}
