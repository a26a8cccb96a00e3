import { hash64 } from '../util/hash.ts';

/** Start small: most inputs have no ids. A power of two. */
const FIRST_SLOTS = 1024;

/** Remembers ids by 64 bits of their hash, at 11 to 22 bytes each: two of a billion ids are mistaken for one with probability 3%. */
export class IdSet {
  // 0 marks a free slot; an id that hashes to 0 is stored as 1.
  #slots: BigUint64Array = new BigUint64Array(FIRST_SLOTS);
  #size = 0;

  /** @returns false when the id was there already */
  add(id: string): boolean {
    const hash = hash64(id) || 1n;
    const at = slotOf(this.#slots, hash);
    if (this.#slots[at] === hash) return false;
    this.#slots[at] = hash;
    if (++this.#size > this.#slots.length * 0.7) this.#grow();
    return true;
  }

  #grow(): void {
    const larger = new BigUint64Array(this.#slots.length * 2);
    for (const hash of this.#slots) if (hash !== 0n) larger[slotOf(larger, hash)] = hash;
    this.#slots = larger;
  }
}

/** The slot that holds `hash`, or the free one where it belongs. */
function slotOf(slots: BigUint64Array, hash: bigint): number {
  let at = Number(hash & BigInt(slots.length - 1));
  while (slots[at] !== 0n && slots[at] !== hash) at = (at + 1) & (slots.length - 1);
  return at;
}
