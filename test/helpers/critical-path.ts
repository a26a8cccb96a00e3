/**
 * When everything of a run happens, by the rules of docs/offloading.md alone. Knows nothing of the engine, only how long each piece of work takes.
 *
 * - The disk serves a few reads at a time, first come, first served. Weights come in pieces, through 8 buffers in turn: a piece waits until the one 8 pieces
 *   before it is there.
 * - One layer after the other is read, what stays of it first. A layer that passes is read to its slot, as soon as the slot is free, with overlap; or when its
 *   turn to compute has come, without. Meanwhile, what stays of later layers is read.
 * - A slot is free when the last micro-batch of its layer is done.
 * - One thing is computed at a time, layer by layer, each as soon as all of it is there.
 */

export interface LayerPieces {
  /** Seconds on the disk; 0 of what is worked out, which takes a buffer alone. */
  readonly stays: readonly number[];
  readonly passes: readonly number[];
  /** Its name. */
  readonly slot: string | undefined;
}

export interface RunFacts {
  readonly layers: readonly LayerPieces[];
  /** Seconds of every run of every layer, sweep by sweep. */
  readonly sweeps: readonly (readonly (readonly number[])[])[];
  /** When the first sweep begins. */
  readonly begin: number;
  /** Reads that the disk serves at a time. */
  readonly diskPlaces: number;
  readonly overlap: boolean;
}

export interface Span {
  readonly begin: number;
  readonly end: number;
}

export interface RunTimes {
  /** From when a piece is asked for to when it is there, in the order in which they are asked for. */
  readonly reads: readonly Span[];
  readonly computes: readonly Span[];
}

const BUFFERS = 8;

export function criticalPath(facts: RunFacts): RunTimes {
  const run = new Run(facts);
  run.work();
  return run;
}

class Run implements RunTimes {
  readonly reads: Span[] = [];
  readonly computes: Span[] = [];
  readonly #facts: RunFacts;
  /** Layers that pass. */
  readonly #passing: readonly number[];
  readonly #disk: number[];
  /** When what stays of each layer is there, as far as it was asked for. */
  readonly #stays: number[] = [];
  /** The same of all readings of layers that pass, one sweep after the other. */
  readonly #passes: number[] = [];
  /** When the last micro-batch of each layer was done, one sweep after the other. */
  readonly #done: number[] = [];

  constructor(facts: RunFacts) {
    this.#facts = facts;
    this.#passing = facts.layers.flatMap(({ passes }, layer) => (passes.length > 0 ? [layer] : []));
    this.#disk = Array.from({ length: facts.diskPlaces }, () => 0);
  }

  work(): void {
    const { layers } = this.#facts;
    for (let now = 0; ;) {
      this.#compute();
      const stays = this.#stays.length;
      const passing = this.#nextPassing();
      const passes = passing && ((passing.begin <= now && passing.order < stays) || stays === layers.length) ? passing : undefined;
      if (!passes && stays === layers.length) return;
      now = Math.max(now, passes?.begin ?? 0);
      const pieces = passes ? layers[passes.layer]!.passes : layers[stays]!.stays;
      const end = this.#read(pieces, now);
      (passes ? this.#passes : this.#stays).push(end);
      now = Math.max(now, pieces.length > 0 ? this.reads.at(-1)!.begin : 0);
    }
  }

  /** Which layer passes next, and when it may be read; undefined if that is not known yet. */
  #nextPassing(): { layer: number; begin: number; order: number } | undefined {
    const { layers, begin, overlap } = this.#facts;
    const count = this.#passes.length;
    const rounds = Math.floor(count / this.#passing.length);
    const layer = this.#passing[count % this.#passing.length];
    if (layer === undefined) return undefined;
    const order = rounds * layers.length + layer;
    if (!overlap) {
      if (order >= this.#facts.sweeps.length * layers.length) return undefined;
      const before = order === 0 ? begin : this.#done[order - 1];
      return before === undefined ? undefined : { layer, begin: before, order };
    }
    // The reading that has the slot now, in this round or the one before.
    const holder = Array.from({ length: count }, (_, i) => count - 1 - i).find(
      (each) => layers[this.#passing[each % this.#passing.length]!]!.slot === layers[layer]!.slot,
    );
    if (holder === undefined) return { layer, begin: 0, order };
    const free = this.#done[Math.floor(holder / this.#passing.length) * layers.length + this.#passing[holder % this.#passing.length]!];
    return free === undefined ? undefined : { layer, begin: free, order };
  }

  /** @returns when the last piece is there */
  #read(pieces: readonly number[], now: number): number {
    let asked = now;
    let last = 0;
    for (const seconds of pieces) {
      asked = Math.max(asked, this.reads.at(-BUFFERS)?.end ?? 0);
      const end = seconds > 0 ? this.#serve(asked, seconds) : asked;
      this.reads.push({ begin: asked, end });
      last = Math.max(last, end);
    }
    return last;
  }

  #serve(asked: number, seconds: number): number {
    const place = this.#disk.indexOf(Math.min(...this.#disk));
    const end = Math.max(asked, this.#disk[place]!) + seconds;
    this.#disk[place] = end;
    return end;
  }

  /** As far as what is needed was asked for. */
  #compute(): void {
    const { layers, sweeps, begin } = this.#facts;
    for (;;) {
      const [sweep, layer] = [Math.floor(this.#done.length / layers.length), this.#done.length % layers.length];
      if (sweep === sweeps.length || this.#stays.length <= layer) return;
      let now = Math.max(begin, this.#done.at(-1) ?? 0, ...this.#stays.slice(0, layer + 1));
      const index = this.#passing.indexOf(layer);
      if (index >= 0) {
        const there = this.#passes[sweep * this.#passing.length + index];
        if (there === undefined) return;
        now = Math.max(now, there);
      }
      for (const seconds of sweeps[sweep]![layer]!) {
        this.computes.push({ begin: now, end: now + seconds });
        now += seconds;
      }
      this.#done.push(now);
    }
  }
}
