/** Works that must not overlap, in the order in which they came. */
export class Turns {
  #last: Promise<unknown> = Promise.resolve();

  /** @returns what the work does, once those before it have ended */
  take<T>(work: () => T | Promise<T>): Promise<T> {
    const result = this.#last.then(work);
    this.#last = result.catch(() => {});
    return result;
  }

  /** Resolves when nothing is left. */
  async idle(): Promise<void> {
    await this.#last;
  }
}
