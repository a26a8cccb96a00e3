/** The sequences in flight, by micro-batch, and those that had to give up their place in the cache. */
import type { Sequence } from './sequence.ts';

export class Block {
  /** By micro-batch; in each, in the order in which they entered it. */
  readonly slots: readonly Sequence[][];
  /** Oldest first. They come back before anything new enters. */
  readonly #waiting: Sequence[] = [];
  /** Every sequence that entered, oldest first. */
  readonly #ages = new Map<Sequence, number>();
  #entered = 0;

  constructor(microBatches: number) {
    this.slots = Array.from({ length: microBatches }, () => []);
  }

  /** Sequences in slots. */
  get running(): number {
    return this.slots.reduce((sum, slot) => sum + slot.length, 0);
  }

  /** Sequences that have begun and not ended. */
  get size(): number {
    return this.running + this.#waiting.length;
  }

  get sequences(): Sequence[] {
    return this.slots.flat();
  }

  /** The one that comes back next. */
  get nextWaiting(): Sequence | undefined {
    return this.#waiting[0];
  }

  find(id: number): Sequence | undefined {
    return [...this.sequences, ...this.#waiting].find(({ request }) => request.id === id);
  }

  /** Indices of the slots, the emptiest first. */
  byLength(): number[] {
    return this.slots.map((_, i) => i).toSorted((a, b) => this.slots[a]!.length - this.slots[b]!.length);
  }

  enter(sequence: Sequence, slot: number): void {
    this.slots[slot]!.push(sequence);
    if (this.#waiting[0] === sequence) this.#waiting.shift();
    if (!this.#ages.has(sequence)) this.#ages.set(sequence, this.#entered++);
  }

  /** The sequence is done. Whoever waits for its beginning waits no more. */
  leave(sequence: Sequence): void {
    this.#release(sequence);
    const index = this.#waiting.indexOf(sequence);
    if (index >= 0) this.#waiting.splice(index, 1);
    this.#ages.delete(sequence);
  }

  /** The sequence of `among` that entered last gives its room to the others, and comes back when there is room. @returns it, or undefined if it would be the only one */
  preemptYoungest(among: readonly Sequence[] = this.sequences): Sequence | undefined {
    if (this.running < 2) return undefined;
    const youngest = among.toSorted((a, b) => this.#ages.get(b)! - this.#ages.get(a)!)[0]!;
    this.#release(youngest);
    this.#waiting.push(youngest);
    this.#waiting.sort((a, b) => this.#ages.get(a)! - this.#ages.get(b)!);
    return youngest;
  }

  /** Lets all of them go. */
  clear(): void {
    for (const sequence of [...this.sequences, ...this.#waiting]) this.leave(sequence);
  }

  #release(sequence: Sequence): void {
    sequence.cache[Symbol.dispose]();
    for (const other of this.sequences) if (other.awaits?.source === sequence) other.awaits = undefined;
    for (const slot of this.slots) {
      const index = slot.indexOf(sequence);
      if (index >= 0) slot.splice(index, 1);
    }
  }
}
