import type { PagePool } from './page-pool.ts';

/** Pages of a pool that are set aside for one sequence. Disposing gives up those that were not taken. */
export class ReservedPages implements Disposable {
  readonly #pool: PagePool;
  #count: number;

  private constructor(pool: PagePool, count: number) {
    this.#pool = pool;
    this.#count = count;
  }

  /** Undefined while the pool has not so many. */
  static of(pool: PagePool, count: number): ReservedPages | undefined {
    return pool.reserve(count) ? new ReservedPages(pool, count) : undefined;
  }

  /** Not taken yet. */
  get count(): number {
    return this.#count;
  }

  /** Sets further ones aside if it has fewer than `count`. @returns whether it has so many then */
  atLeast(count: number): boolean {
    const missing = count - this.#count;
    if (missing <= 0) return true;
    if (!this.#pool.reserve(missing)) return false;
    this.#count = count;
    return true;
  }

  take(): number {
    this.#count--;
    return this.#pool.take();
  }

  [Symbol.dispose](): void {
    this.#pool.unreserve(this.#count);
    this.#count = 0;
  }
}
