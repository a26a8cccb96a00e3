/** Things that must be freed together, in the reverse of the order in which they were made. Node 20 has no AsyncDisposableStack. */
export class Lifetime implements AsyncDisposable {
  readonly #owned: (Disposable | AsyncDisposable)[] = [];

  /** Takes ownership. @returns what it was given */
  use<T extends Disposable | AsyncDisposable>(resource: T): T {
    this.#owned.push(resource);
    return resource;
  }

  /** Frees everything, even when freeing one thing fails; then throws the first failure. Later calls do nothing. */
  async [Symbol.asyncDispose](): Promise<void> {
    const failures: unknown[] = [];
    for (let resource = this.#owned.pop(); resource; resource = this.#owned.pop()) {
      try {
        if (Symbol.asyncDispose in resource) await resource[Symbol.asyncDispose]();
        else resource[Symbol.dispose]();
      } catch (cause) {
        failures.push(cause);
      }
    }
    if (failures.length > 0) throw failures[0];
  }
}
