import { NULL_PAGE } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import { firstSeenPage, heldPages, pagesFor } from './layer-groups.ts';
import type { PagePool } from './page-pool.ts';

/** What bounds the pages of one sequence in one group of layers. */
export interface TableLimits {
  /** Most positions of the sequence. */
  readonly positions: number;
  readonly window: number;
  readonly chunk: number;
  /** Positions whose pages are reserved at once; further ones are had if there are any left then. Default all. */
  readonly reserve?: number | undefined;
}

/** The pages that one sequence holds in one group of layers. Disposing gives them back, exactly once. */
export class PageTable implements Disposable {
  /** In order of the positions; NULL_PAGE where the window has moved on. */
  readonly pages: number[] = [];
  /** Whether pages are given back before the sequence ends. */
  readonly #slides: boolean;
  readonly #pool: PagePool;
  readonly #window: number;
  /** Pages that the sequence has at its end, with those given back. */
  readonly #total: number;
  /** Pages before this one were given back. */
  #first = 0;
  #reserved: number;
  #open = true;

  private constructor(pool: PagePool, { positions, window, chunk }: TableLimits, reserved: number) {
    this.#pool = pool;
    this.#window = window;
    this.#total = pagesFor(positions);
    this.#slides = heldPages(positions, window, chunk) < this.#total;
    this.#reserved = reserved;
  }

  /** A table that never runs out of reserved pages, or undefined while there is no room for them. It starts with `shared` pages of another one. */
  static open(pool: PagePool, limits: TableLimits, shared: readonly number[] = []): PageTable | undefined {
    const { positions, window, chunk, reserve = positions } = limits;
    const held = heldPages(positions, window, chunk);
    // Pages that a moving window gives back come again: all of them are few.
    const first = held < pagesFor(positions) ? held : heldPages(Math.min(reserve, positions), window, chunk);
    const reserved = Math.max(0, first - shared.length);
    if (!pool.reserve(reserved)) return undefined;
    const table = new PageTable(pool, limits, reserved);
    if (table.#slides && shared.length > 0) throw internalError(`a table whose window moves shares ${shared.length} pages`);
    for (const page of shared) pool.retain(page);
    table.pages.push(...shared);
    return table;
  }

  /** Pages that are given back early are not shared, or another holder would keep what is counted as free again. */
  get sharable(): boolean {
    return !this.#slides && this.#first === 0;
  }

  /** Pages that it has now. */
  get held(): number {
    return this.pages.length - this.#first;
  }

  /** Whether what a query at `position` sees is still there. */
  reaches(position: number): boolean {
    return firstSeenPage(position, this.#window) >= this.#first;
  }

  /** Adds a page, out of the reservation if something is left of it. @returns undefined when there is none */
  takePage(): number | undefined {
    if (this.pages.length >= this.#total) throw internalError(`a sequence of ${this.pages.length} pages grows beyond its reservation`);
    if (this.#reserved === 0) {
      if (!this.#pool.reserve(1)) return undefined;
      this.#reserved++;
    }
    const page = this.#pool.take();
    this.#reserved--;
    this.pages.push(page);
    return page;
  }

  /** Leaves out a page that no later position sees. */
  skipPage(): void {
    this.pages.push(NULL_PAGE);
    this.#first = this.pages.length;
  }

  /** Gives back the pages that nothing from `position` on sees. What will be needed again for later pages stays reserved. */
  slide(position: number): void {
    const first = Math.min(firstSeenPage(position, this.#window), this.pages.length);
    if (!this.#slides) return;
    for (; this.#first < first; this.#first++) {
      this.#pool.release(this.pages[this.#first]!);
      this.pages[this.#first] = NULL_PAGE;
      if (this.#reserved >= this.#total - this.pages.length) continue;
      if (!this.#pool.reserve(1)) throw internalError('a page that was given back cannot be reserved again');
      this.#reserved++;
    }
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    for (const page of this.pages) if (page !== NULL_PAGE) this.#pool.release(page);
    this.#pool.unreserve(this.#reserved);
  }
}
