import { NULL_PAGE } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';

/**
 * Hands out pages `first` to `first + capacity - 1` and counts who holds them. Knows numbers only. Pages can be reserved before they are taken, so that an
 * admitted sequence never runs out; the lowest free page is taken first, so that without a budget memory is touched only as far as it is needed.
 */
export class PagePool {
  readonly first: number;
  readonly capacity: number;
  /** References of each page; 0 is free. */
  readonly #references: Uint32Array;
  #taken = 0;
  #reserved = 0;
  /** Counted from `first`, like all indices here. */
  #lowestFree = 0;

  /** @param first the default leaves out the null page */
  constructor(capacity: number, first: number = NULL_PAGE + 1) {
    this.first = first;
    this.capacity = capacity;
    this.#references = new Uint32Array(capacity);
  }

  /** Pages that can still be reserved. */
  get available(): number {
    return this.capacity - this.#taken - this.#reserved;
  }

  has(page: number): boolean {
    return page >= this.first && page < this.first + this.capacity;
  }

  /** Holders of a page. */
  holders(page: number): number {
    return this.#references[page - this.first] ?? 0;
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
    let index = this.#lowestFree;
    while (this.#references[index] !== 0) index++;
    this.#references[index] = 1;
    this.#lowestFree = index + 1;
    this.#taken++;
    return this.first + index;
  }

  /** One more holder of a page. */
  retain(page: number): void {
    if (this.holders(page) === 0) throw internalError(`page ${page} is shared, but nobody holds it`);
    this.#references[page - this.first]!++;
  }

  release(page: number): void {
    if (this.holders(page) === 0) throw internalError(`page ${page} is released, but nobody holds it`);
    const index = page - this.first;
    this.#references[index]!--;
    if (this.#references[index]! > 0) return;
    this.#taken--;
    this.#lowestFree = Math.min(this.#lowestFree, index);
  }
}
