/** How long running sequences wait for a slow source before the next sweep starts without a new one. Files answer much sooner. */
const PATIENCE_MS = 20;

/** Takes requests from a source one at a time, holding back the one that was looked at but not taken. */
export class Inlet<T> {
  readonly #iterator: AsyncIterator<T> | Iterator<T>;
  #next: Promise<IteratorResult<T>> | undefined;
  #ended = false;

  constructor(source: Iterable<T> | AsyncIterable<T>) {
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
  }

  /** No request will come any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /** The next request without taking it. `patient` waits for it; otherwise undefined comes back when the source is slow. */
  async peek(patient: boolean): Promise<T | undefined> {
    if (this.#ended) return undefined;
    this.#next ??= Promise.resolve(this.#iterator.next());
    const result = patient ? await this.#next : await firstOf(this.#next, PATIENCE_MS);
    if (result === undefined) return undefined;
    if (!result.done) return result.value;
    this.#ended = true;
    return undefined;
  }

  /** Takes what `peek` returned. */
  take(): void {
    this.#next = undefined;
  }

  /** Tells the source that nothing more is wanted. */
  async close(): Promise<void> {
    this.#next?.catch(() => {}); // a source that fails after nobody listens
    if (!this.#ended) await this.#iterator.return?.();
    this.#ended = true;
  }
}

async function firstOf<T>(promise: Promise<T>, ms: number): Promise<T | undefined> {
  let timer: NodeJS.Timeout | undefined;
  const late = new Promise<undefined>((resolve) => (timer = setTimeout(() => resolve(undefined), ms)));
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
