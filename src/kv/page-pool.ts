import { NULL_PAGE } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';

/**
 * Hands out pages 1 to capacity and counts who holds them. Knows numbers only. Pages can be reserved before they are taken, so that an
 * admitted sequence never runs out; the lowest free page is taken first, so that memory is touched only as far as it is needed.
 */
export class PagePool {
  readonly capacity: number;
  /** References of each page; 0 is free. */
  readonly #references: Uint32Array;
  #taken = 0;
  #reserved = 0;
  #lowestFree: number;

  /** `capacity` pages, beside the null page. */
  constructor(capacity: number) {
    this.capacity = capacity;
    this.#references = new Uint32Array(capacity + 1);
    this.#references[NULL_PAGE] = 1;
    this.#lowestFree = NULL_PAGE + 1;
  }

  /** Pages that can still be reserved. */
  get available(): number {
    return this.capacity - this.#taken - this.#reserved;
  }

  /** @returns whether there was room */
  reserve(pages: number): boolean {
    if (pages > this.available) return false;
    this.#reserved += pages;
    return true;
  }

  unreserve(pages: number): void {
    if (pages > this.#reserved) throw internalError(`${pages} pages given back, ${this.#reserved} are reserved`);
    this.#reserved -= pages;
  }

  /** Turns one reserved page into a held one. */
  take(): number {
    this.unreserve(1);
    let page = this.#lowestFree;
    while (this.#references[page] !== 0) page++;
    this.#references[page] = 1;
    this.#lowestFree = page + 1;
    this.#taken++;
    return page;
  }

  /** One more holder of a page. */
  retain(page: number): void {
    if (!this.#references[page]) throw internalError(`page ${page} is shared, but nobody holds it`);
    this.#references[page]++;
  }

  release(page: number): void {
    if (!this.#references[page] || page === NULL_PAGE) throw internalError(`page ${page} is released, but nobody holds it`);
    this.#references[page]--;
    if (this.#references[page] > 0) return;
    this.#taken--;
    this.#lowestFree = Math.min(this.#lowestFree, page);
  }
}
