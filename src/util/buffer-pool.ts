/** Buffers that are used again: new ones cost a page fault for every 4 KiB, as much time as the work on them. */
export class BufferPool {
  readonly #free: ArrayBuffer[] = [];

  /** Runs `work` with `bytes` bytes of any content, 8-byte aligned, which belong to it until it ends. */
  async use<R>(bytes: number, work: (buffer: Uint8Array<ArrayBuffer>) => Promise<R>): Promise<R> {
    const last = this.#free.pop();
    // One that is too small is dropped for a larger one, so that there are never more than are in use at a time.
    const buffer = last && last.byteLength >= bytes ? last : new ArrayBuffer(bytes);
    try {
      return await work(new Uint8Array(buffer, 0, bytes));
    } finally {
      this.#free.push(buffer);
    }
  }
}
