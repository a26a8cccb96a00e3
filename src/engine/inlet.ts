/** How long running sequences wait for a slow source before the next sweep starts without a new one. Files answer much sooner. */
const PATIENCE_MS = 20;

/** Takes requests from a source one at a time, holding back the one that was looked at but not taken. */
export class Inlet<T> {
  readonly #iterator: AsyncIterator<T> | Iterator<T>;
  readonly #signal: AbortSignal | undefined;
  #next: Promise<IteratorResult<T>> | undefined;
  /** The source owes an answer. */
  #asked = false;
  /** `#next` was waited for in vain; it gets no second chance to delay a sweep. */
  #late = false;
  #ended = false;

  constructor(source: Iterable<T> | AsyncIterable<T>, signal?: AbortSignal) {
    this.#iterator = Symbol.asyncIterator in source ? source[Symbol.asyncIterator]() : source[Symbol.iterator]();
    this.#signal = signal;
  }

  /** No request will come any more. */
  get ended(): boolean {
    return this.#ended;
  }

  /**
   * The next request without taking it. `patient` waits for it; otherwise undefined comes back when the source is slow.
   * @throws {Error} of the signal, at once; whatever the source throws
   */
  async peek(patient: boolean): Promise<T | undefined> {
    this.#signal?.throwIfAborted();
    if (this.#ended) return undefined;
    this.#next ??= this.#ask();
    const result = await (patient ? unlessAborted(this.#next, this.#signal) : firstOf(this.#next, this.#late ? 0 : PATIENCE_MS));
    this.#late = result === undefined;
    if (result === undefined) return undefined;
    if (!result.done) return result.value;
    this.#ended = true;
    return undefined;
  }

  /** Takes what `peek` returned. */
  take(): void {
    this.#next = undefined;
  }

  /** Tells the source that nothing more is wanted. Waits for its answer only if it is not busy with another one. */
  async close(): Promise<void> {
    if (this.#ended) return;
    this.#ended = true;
    const closing = Promise.resolve(this.#iterator.return?.());
    if (this.#asked) closing.catch(() => {}); // nobody listens any more
    else await closing;
  }

  #ask(): Promise<IteratorResult<T>> {
    const next = Promise.resolve(this.#iterator.next());
    this.#asked = true;
    const answered = (): void => void (this.#asked = false);
    next.then(answered, answered);
    return next;
  }
}

async function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return await promise;
  let abort = (): void => {};
  const aborted = new Promise<never>((_resolve, reject) => (abort = () => reject(signal.reason as Error)));
  signal.addEventListener('abort', abort);
  try {
    return await Promise.race([promise, aborted]);
  } finally {
    signal.removeEventListener('abort', abort);
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
