import { NULL_PAGE, PAGE_POSITIONS } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import { firstSeenPage, heldPages, pagesFor } from './layer-groups.ts';
import { isOnDisk, type PageHome, poolOf } from './page-home.ts';
import type { PagePool } from './page-pool.ts';
import { ReservedPages } from './reserved-pages.ts';

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
  /** In order of the positions; NULL_PAGE where the window has moved on, numbers from DISK_PAGE on for those that rest on disk. */
  readonly pages: number[] = [];
  readonly home: PageHome;
  /** Whether pages are given back before the sequence ends. */
  readonly #slides: boolean;
  readonly #window: number;
  /** Pages that the sequence has at its end, with those given back. */
  readonly #total: number;
  /** The first pages are those of another sequence, too. */
  readonly #shared: number;
  /** Pages before this one were given back. */
  #first = 0;
  readonly #memory: ReservedPages;
  /** Room on disk for every page that was taken and is not there, and for those to come. */
  readonly #disk: ReservedPages | undefined;
  /** Indices of pages on their way to disk. */
  readonly #leaving = new Set<number>();
  #open = true;

  private constructor(
    home: PageHome,
    limits: TableLimits,
    memory: ReservedPages,
    disk: ReservedPages | undefined,
    shared: readonly number[],
  ) {
    const { positions, window, chunk } = limits;
    this.home = home;
    this.#window = window;
    this.#total = pagesFor(positions);
    this.#slides = heldPages(positions, window, chunk) < this.#total;
    this.#memory = memory;
    this.#disk = disk;
    this.#shared = shared.length;
    this.pages.push(...shared);
  }

  /** A table that never runs out of reserved pages, or undefined while there is no room for them. It starts with `shared` pages of another one. */
  static open(home: PageHome, limits: TableLimits, shared: readonly number[] = []): PageTable | undefined {
    const { positions, window, chunk, reserve = positions } = limits;
    const held = heldPages(positions, window, chunk);
    // Pages that a moving window gives back come again: all of them are few.
    const slides = held < pagesFor(positions);
    const first = slides ? held : heldPages(Math.min(reserve, positions), window, chunk);
    if (slides && shared.length > 0) throw internalError(`a table whose window moves shares ${shared.length} pages`);
    const wanted = Math.max(0, first - shared.length);
    // On disk there is room for all, in memory for the one that is written to.
    const disk = home.disk && ReservedPages.of(home.disk, wanted);
    if (home.disk && !disk) return undefined;
    const memory = ReservedPages.of(home.memory, disk ? Math.min(1, wanted) : wanted);
    if (!memory) {
      disk?.[Symbol.dispose]();
      return undefined;
    }
    for (const page of shared) poolOf(home, page).retain(page);
    return new PageTable(home, limits, memory, disk, shared);
  }

  /** Pages that are given back early are not shared, or another holder would keep what is counted as free again. */
  get sharable(): boolean {
    return !this.#slides && this.#first === 0;
  }

  /** Pages that it has in memory. */
  get held(): number {
    return this.pages.reduce((sum, page) => sum + (page === NULL_PAGE || isOnDisk(page) ? 0 : 1), 0);
  }

  /** Whether what a query at `position` sees is still there. */
  reaches(position: number): boolean {
    return firstSeenPage(position, this.#window) >= this.#first;
  }

  /** Whether a page of the first `positions` rests on disk, or soon will. */
  isOnDisk(positions: number): boolean {
    return this.pages.slice(0, pagesFor(positions)).some((page, index) => isOnDisk(page) || this.#leaving.has(index));
  }

  /** Adds a page in memory, out of the reservation if something is left of it. @returns undefined when there is none */
  takePage(): number | undefined {
    if (this.pages.length >= this.#total) throw internalError(`a sequence of ${this.pages.length} pages grows beyond its reservation`);
    if (this.#disk && !this.#disk.atLeast(this.#unstored + 1)) return undefined;
    if (!this.#memory.atLeast(1)) return undefined;
    const page = this.#memory.take();
    this.pages.push(page);
    return page;
  }

  /** Leaves out a page that no later position sees. */
  skipPage(): void {
    this.pages.push(NULL_PAGE);
    this.#first = this.pages.length;
  }

  /** Of the pages that the first `positions` fill, those that are in memory, its own alone, and might go to disk. */
  *storable(positions: number): Generator<number, void, void> {
    const end = Math.min(this.pages.length, Math.floor(positions / PAGE_POSITIONS));
    for (let index = Math.max(this.#first, this.#shared); this.#disk && index < end; index++) {
      const page = this.pages[index]!;
      if (!isOnDisk(page) && poolOf(this.home, page).holders(page) === 1) yield index;
    }
  }

  /** A page on disk for one in memory; `moved` or giving it back to its pool follows. */
  takeDiskPage(index: number): number {
    if (!this.#disk?.atLeast(1)) throw internalError('a page was taken without room for it on disk');
    this.#leaving.add(index);
    return this.#disk.take();
  }

  /** The page has been copied to `diskPage`, where it rests from now on. @returns false if the table has it no more */
  moved(index: number, page: number, diskPage: number): boolean {
    this.#leaving.delete(index);
    if (!this.#open || this.pages[index] !== page) return false;
    this.pages[index] = diskPage;
    poolOf(this.home, page).release(page);
    this.#memory.atLeast(1); // for the next one; if others hold the page still, there may be none
    return true;
  }

  /** Gives back the pages that nothing from `position` on sees. What will be needed again for later pages stays reserved. */
  slide(position: number): void {
    const first = Math.min(firstSeenPage(position, this.#window), this.pages.length);
    if (!this.#slides) return;
    for (; this.#first < first; this.#first++) {
      const page = this.pages[this.#first]!;
      this.pages[this.#first] = NULL_PAGE;
      const pool = poolOf(this.home, page);
      pool.release(page);
      this.#reserveAgain(pool);
    }
  }

  [Symbol.dispose](): void {
    if (!this.#open) return;
    this.#open = false;
    for (const page of this.pages) if (page !== NULL_PAGE) poolOf(this.home, page).release(page);
    this.#memory[Symbol.dispose]();
    this.#disk?.[Symbol.dispose]();
  }

  /** Own pages in memory. */
  get #unstored(): number {
    let count = 0;
    for (const page of this.pages.slice(this.#shared)) if (page !== NULL_PAGE && !isOnDisk(page)) count++;
    return count;
  }

  #reserveAgain(pool: PagePool): void {
    const later = this.#total - this.pages.length;
    const enough = this.#disk
      ? pool === this.home.disk
        ? this.#disk.atLeast(Math.min(this.#disk.count + 1, this.#unstored + later))
        : this.#memory.atLeast(Math.min(1, later))
      : this.#memory.atLeast(Math.min(this.#memory.count + 1, later));
    if (!enough) throw internalError('a page that was given back cannot be reserved again');
  }
}
