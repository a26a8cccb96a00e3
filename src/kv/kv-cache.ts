import { type Device, type KvLayer, NULL_PAGE, PAGE_POSITIONS, type Tensor } from '../tensor/device.ts';
import { type KvType, byteLengthOf } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import { PagePool } from './page-pool.ts';

export interface KvShape {
  /** Layers that attend. */
  readonly layers: number;
  /** kvHeads * headDim */
  readonly columns: number;
  readonly type: KvType;
}

/** Pages of `positions` positions. */
export const pagesFor = (positions: number): number => Math.ceil(positions / PAGE_POSITIONS);

/** Bytes of one page in all layers, keys and values together. */
export function pageBytes({ layers, columns, type }: KvShape): number {
  return 2 * layers * byteLengthOf(type, PAGE_POSITIONS * columns);
}

/** Keys and values of all sequences in flight: per layer two tensors of pages, and page lists of sequences. */
export class KvCache implements Disposable {
  readonly layers: readonly KvLayer[];
  readonly #device: Device;
  readonly #pool: PagePool;
  readonly #pageColumns: Uint8Array;
  /** Pages that hold finite numbers; memory comes uninitialised, and a masked NaN would still spread. */
  readonly #clean = new Set<number>();

  /** @throws {MemoryError} */
  constructor(device: Device, shape: KvShape, pages: number) {
    this.#device = device;
    this.#pool = new PagePool(pages);
    this.#pageColumns = new Uint8Array(byteLengthOf(shape.type, PAGE_POSITIONS * shape.columns));
    const tensors: Tensor[] = [];
    const allocate = (name: string): Tensor => {
      const tensor = device.allocate(name, shape.type, [(pages + 1) * PAGE_POSITIONS, shape.columns]);
      tensors.push(tensor);
      return tensor;
    };
    try {
      this.layers = Array.from({ length: shape.layers }, (_, i) => ({ keys: allocate(`keys ${i}`), values: allocate(`values ${i}`) }));
    } catch (cause) {
      for (const tensor of tensors) tensor[Symbol.dispose]();
      throw cause;
    }
  }

  get capacityPages(): number {
    return this.#pool.capacity;
  }

  get availablePages(): number {
    return this.#pool.available;
  }

  /** An empty sequence with room for `positions`, or undefined while there is none. */
  open(positions: number): KvSequence | undefined {
    const pages = pagesFor(positions);
    return this.#pool.reserve(pages) ? new KvSequence(this.#pool, [], 0, pages) : undefined;
  }

  /** Takes the pages that `sequence` needs to hold `length` positions, out of its reservation. */
  async extend(sequence: KvSequence, length: number): Promise<void> {
    await this.#clear(NULL_PAGE);
    while (sequence.pages.length < pagesFor(length)) await this.#clear(sequence.takePage());
    sequence.length = Math.max(sequence.length, length);
  }

  /**
   * A new sequence that starts with the first `length` positions of `parent` and has room for `positions` in all, or undefined while
   * there is none. Full pages are shared; a page that both would write to is copied.
   */
  async fork(parent: KvSequence, length: number, positions: number): Promise<KvSequence | undefined> {
    if (length > parent.length) throw internalError(`fork at ${length}, the sequence has ${parent.length} positions`);
    const shared = Math.floor(length / PAGE_POSITIONS);
    const own = pagesFor(Math.max(positions, length)) - shared;
    if (!this.#pool.reserve(own)) return undefined;
    const pages = parent.pages.slice(0, shared);
    for (const page of pages) this.#pool.retain(page);
    const child = new KvSequence(this.#pool, pages, shared * PAGE_POSITIONS, own);
    if (length % PAGE_POSITIONS === 0) return child;
    try {
      await this.extend(child, length);
      await this.#copyPage(parent.pages[shared]!, child.pages[shared]!);
      return child;
    } catch (cause) {
      child[Symbol.dispose]();
      throw cause;
    }
  }

  /** Says that what was computed last may be no number: pages are cleared again before they are used again. */
  distrust(): void {
    this.#clean.clear();
  }

  [Symbol.dispose](): void {
    for (const { keys, values } of this.layers) {
      keys[Symbol.dispose]();
      values[Symbol.dispose]();
    }
  }

  async #clear(page: number): Promise<void> {
    if (this.#clean.has(page)) return;
    const bytes = this.#pageColumns.byteLength;
    for (const { keys, values } of this.layers) {
      await this.#device.write(keys, page * bytes, this.#pageColumns);
      await this.#device.write(values, page * bytes, this.#pageColumns);
    }
    this.#clean.add(page);
  }

  async #copyPage(from: number, to: number): Promise<void> {
    const bytes = this.#pageColumns.byteLength;
    for (const { keys, values } of this.layers) {
      await this.#device.copy(keys, from * bytes, keys, to * bytes, bytes);
      await this.#device.copy(values, from * bytes, values, to * bytes, bytes);
    }
  }
}

/** The pages of one sequence. Disposing gives them back, exactly once. */
export class KvSequence implements Disposable {
  readonly pages: number[];
  /** Positions that hold keys and values. */
  length: number;
  readonly #pool: PagePool;
  #reservedPages: number;
  #open = true;

  constructor(pool: PagePool, pages: number[], length: number, reservedPages: number) {
    this.#pool = pool;
    this.pages = pages;
    this.length = length;
    this.#reservedPages = reservedPages;
  }

  takePage(): number {
    if (this.#reservedPages === 0) throw internalError(`a sequence of ${this.pages.length} pages grows beyond its reservation`);
    const page = this.#pool.take();
    this.#reservedPages--;
    this.pages.push(page);
    return page;
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    for (const page of this.pages) this.#pool.release(page);
    this.#pool.unreserve(this.#reservedPages);
  }
}
