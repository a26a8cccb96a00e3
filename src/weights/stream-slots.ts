/**
 * The slot of the ring that each of `layers` streamed layers is read to, in every sweep the same one, so that programs keep their addresses. Layers go
 * round: behind the last one comes the first one again, and between two layers of a slot lie `slots` - 1 others where that can be, `slots` - 2 otherwise.
 */
export function assignSlots(layers: number, slots: number): number[] {
  if (layers <= slots) return Array.from({ length: layers }, (_, i) => i);
  // layers = whole rounds of `slots` and some of one less.
  const short = (slots - (layers % slots)) % slots;
  const long = Math.ceil(layers / slots) - short;
  if (slots < 3 || long < 0) return Array.from({ length: layers }, (_, i) => i % slots);
  const rounds = [...Array.from({ length: long }, () => slots), ...Array.from({ length: short }, () => slots - 1)];
  return rounds.flatMap((length) => Array.from({ length }, (_, i) => i));
}
