/**
 * Results of `start` in the order of `items`, up to `depth` of which are in progress at a time. After a failure, or when the reader stops
 * early, those in progress are waited for.
 */
export async function* readAhead<T, R>(items: Iterable<T>, depth: number, start: (item: T) => Promise<R>): AsyncGenerator<R, void, void> {
  const pending: Promise<R>[] = [];
  try {
    for (const item of items) {
      const promise = start(item);
      // It is awaited in its turn; until then a failure must not count as unhandled.
      promise.catch(() => {});
      pending.push(promise);
      if (pending.length >= depth) yield await pending.shift()!;
    }
    while (pending.length > 0) yield await pending.shift()!;
  } finally {
    await Promise.allSettled(pending);
  }
}
