/** Works that may overlap, a few at a time. */
export class InFlight {
  readonly #most: number;
  /** In the order in which they began. */
  readonly #works: Promise<void>[] = [];

  /** @param most works at a time. Default 1 */
  constructor(most = 1) {
    this.#most = most;
  }

  /** Begins a work; resolves when there is room for another one. @throws what a work that had to end for that threw */
  async add(work: () => Promise<void>): Promise<void> {
    const begun = work();
    begun.catch(() => {}); // whoever waits for it gets the error
    this.#works.push(begun);
    while (this.#works.length >= this.#most) await this.#works.shift();
  }

  /** Resolves when all have ended. @throws what the first one that failed threw */
  async end(): Promise<void> {
    while (this.#works.length > 0) await this.#works.shift();
  }

  /** The same, whatever they threw. */
  async settle(): Promise<void> {
    await Promise.allSettled(this.#works.splice(0));
  }
}
