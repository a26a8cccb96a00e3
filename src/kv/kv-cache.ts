import type { BatchRow, Device, KvLayer } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import { KvGroupCache } from './kv-group-cache.ts';
import { type KvShape, layerGroups } from './layer-groups.ts';
import type { PageTable } from './page-table.ts';

/** Keys and values of all sequences in flight. Layers with a sliding window have pages of their own, which they give back as it moves. */
export class KvCache implements Disposable {
  /** Of the attending layers, in their order. */
  readonly layers: readonly KvLayer[];
  readonly #groups: readonly KvGroupCache[];

  /** `pages` of each of the shape's layer groups, in their order. @throws {MemoryError} */
  constructor(device: Device, shape: KvShape, pages: readonly number[]) {
    const groups = layerGroups(shape.windows);
    if (pages.length !== groups.length) throw internalError(`${groups.length} groups of layers with ${pages.length} numbers of pages`);
    const caches: KvGroupCache[] = [];
    try {
      for (const [i, group] of groups.entries()) caches.push(new KvGroupCache(device, shape, group, pages[i]!));
    } catch (cause) {
      for (const cache of caches) cache[Symbol.dispose]();
      throw cause;
    }
    this.#groups = caches;
    this.layers = shape.windows.map((_, layer) => {
      const at = groups.findIndex(({ layers }) => layers.includes(layer));
      return caches[at]!.layers[groups[at]!.layers.indexOf(layer)]!;
    });
  }

  /** Of all groups together. */
  get capacityPages(): number {
    return this.#groups.reduce((sum, group) => sum + group.capacityPages, 0);
  }

  get availablePages(): number {
    return this.#groups.reduce((sum, group) => sum + group.availablePages, 0);
  }

  /** The largest share that these sequences hold of the pages of a group; pages that several of them hold count for each. */
  shareOf(sequences: readonly KvSequence[]): number {
    const shares = this.#groups.map(
      ({ capacityPages }, i) => sequences.reduce((sum, { tables }) => sum + tables[i]!.held, 0) / capacityPages,
    );
    return Math.max(0, ...shares);
  }

  /** What keeps a sequence of up to `positions` from ever fitting: the pages that one group would need, and has. */
  shortage(positions: number): { needed: number; capacity: number } | undefined {
    const group = this.#groups.find((each) => each.pagesNeeded(positions) > each.capacityPages);
    return group && { needed: group.pagesNeeded(positions), capacity: group.capacityPages };
  }

  /**
   * An empty sequence for up to `positions`, or undefined while there is no room for `reserve` of them (default all), which it never lacks. Further
   * ones it gets if there is room then.
   */
  open(positions: number, reserve?: number): KvSequence | undefined {
    const tables: PageTable[] = [];
    for (const group of this.#groups) {
      const table = group.open(positions, reserve);
      if (!table) return giveBack(tables);
      tables.push(table);
    }
    return this.#sequence(tables, 0);
  }

  /** Takes the pages that `sequence` needs to hold `length` positions. @returns whether there was room; always within its reservation */
  async extend(sequence: KvSequence, length: number): Promise<boolean> {
    for (const [i, group] of this.#groups.entries()) if (!(await group.extend(sequence.tables[i]!, length))) return false;
    sequence.length = Math.max(sequence.length, length);
    return true;
  }

  /**
   * A new sequence that starts with the first `length` positions of `parent` and has room for `positions` in all, or undefined while
   * there is none. What both would write to is copied; other pages are shared where that is possible.
   */
  async fork(parent: KvSequence, length: number, positions: number, reserve?: number): Promise<KvSequence | undefined> {
    if (length > parent.length) throw internalError(`fork at ${length}, the sequence has ${parent.length} positions`);
    const tables: PageTable[] = [];
    try {
      for (const [i, group] of this.#groups.entries()) {
        const table = await group.fork(parent.tables[i]!, length, positions, reserve);
        if (!table) return giveBack(tables);
        tables.push(table);
      }
    } catch (cause) {
      giveBack(tables);
      throw cause;
    }
    return this.#sequence(tables, length);
  }

  /** Says that what was computed last may be no number: pages are cleared again before they are used again. */
  distrust(): void {
    for (const group of this.#groups) group.distrust();
  }

  [Symbol.dispose](): void {
    for (const group of this.#groups) group[Symbol.dispose]();
  }

  #sequence(tables: readonly PageTable[], length: number): KvSequence {
    const windows = this.#groups.map(({ window }) => window);
    return new KvSequence(windows, tables, length);
  }
}

function giveBack(tables: readonly PageTable[]): undefined {
  for (const table of tables) table[Symbol.dispose]();
}

/** The pages of one sequence, in every group of layers. Disposing gives them back, exactly once. */
export class KvSequence implements Disposable {
  /** In the order of the groups. */
  readonly tables: readonly PageTable[];
  /** What devices want to know of them. */
  readonly pageLists: Pick<BatchRow, 'pages' | 'windowPages'>;
  /** Positions that hold keys and values. */
  length: number;

  constructor(windows: readonly number[], tables: readonly PageTable[], length: number) {
    this.tables = tables;
    this.length = length;
    const lists = new Map(windows.map((window, i) => [window, tables[i]!.pages]));
    const pages = lists.get(Infinity) ?? [];
    lists.delete(Infinity);
    this.pageLists = { pages, ...(lists.size > 0 && { windowPages: lists }) };
  }

  /** Whether it can be forked at `length`: it is so long, and no window has moved past what is seen from there. */
  reaches(length: number): boolean {
    return length <= this.length && this.tables.every((table) => table.reaches(length));
  }

  /** Gives back the pages that no position behind those it has will see. */
  slide(): void {
    for (const table of this.tables) table.slide(this.length);
  }

  [Symbol.dispose](): void {
    for (const table of this.tables) table[Symbol.dispose]();
  }
}
