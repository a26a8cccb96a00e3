import type { BatchRow, Device, KvLayer } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { SpillFile } from '../native/spill-file.ts';
import type { LaneLog } from '../util/lanes.ts';
import { KvGroupCache } from './kv-group-cache.ts';
import { KvSpill } from './kv-spill.ts';
import { type KvShape, layerGroups } from './layer-groups.ts';
import type { PageTable } from './page-table.ts';

/** Pages on disk, and those in memory that sequences with pages on disk work with. */
export interface KvDiskPages {
  /** In memory, of each group of layers. */
  readonly working: readonly number[];
  /** On disk, of each group of layers and bay. */
  readonly bay: readonly number[];
  /** Sequences of different bays are never read together: as many as there are micro-batches. */
  readonly bays: number;
  readonly file: SpillFile;
  readonly lanes?: LaneLog | undefined;
}

/**
 * Keys and values of all sequences in flight. Layers with a sliding window have pages of their own, which they give back as it moves. Sequences live in memory
 * while there is room; of others, full pages go to disk if there are such.
 */
export class KvCache implements Disposable, AsyncDisposable {
  /** Of the attending layers, in their order. */
  readonly layers: readonly KvLayer[];
  /** Pages on disk, if there are any. */
  readonly spill: KvSpill | undefined;
  readonly #groups: readonly KvGroupCache[];

  /** `pages` of each of the shape's layer groups, in their order. @throws {MemoryError} */
  constructor(device: Device, shape: KvShape, pages: readonly number[], disk?: KvDiskPages) {
    const groups = layerGroups(shape.windows);
    if (pages.length !== groups.length) throw internalError(`${groups.length} groups of layers with ${pages.length} numbers of pages`);
    const caches: KvGroupCache[] = [];
    try {
      for (const [i, group] of groups.entries()) {
        const counts = { memory: pages[i]!, working: disk?.working[i] ?? 0, bay: disk?.bay[i] ?? 0, bays: disk?.bays ?? 0 };
        caches.push(new KvGroupCache(device, shape, group, counts));
      }
    } catch (cause) {
      for (const cache of caches) cache[Symbol.dispose]();
      throw cause;
    }
    this.#groups = caches;
    this.layers = shape.windows.map((_, layer) => {
      const at = groups.findIndex(({ layers }) => layers.includes(layer));
      return caches[at]!.layers[groups[at]!.layers.indexOf(layer)]!;
    });
    this.spill =
      disk &&
      new KvSpill({
        device,
        shape,
        layers: this.layers,
        pages: disk.bay.map((count) => count * disk.bays),
        file: disk.file,
        lanes: disk.lanes,
      });
  }

  /** Has the memory given before it is written to: what was planned is there then, however late rows want it. */
  async claim(): Promise<void> {
    for (const group of this.#groups) await group.claim();
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
    const group = this.#groups.find((each) => each.pagesNeeded(positions) > each.mostPages);
    return group && { needed: group.pagesNeeded(positions), capacity: group.mostPages };
  }

  /**
   * An empty sequence for up to `positions`, or undefined while there is no room for `reserve` of them (default all), which it never lacks. Further
   * ones it gets if there is room then. `bay`: where its pages go if they have no room in memory.
   */
  open(positions: number, reserve?: number, bay = 0): KvSequence | undefined {
    for (const home of this.#homes(bay)) {
      const tables = allOf(this.#groups, (group) => group.open(group.home(home), positions, reserve));
      if (tables) return this.#sequence(tables, 0, bay);
    }
    return undefined;
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
  async fork(parent: KvSequence, length: number, positions: number, reserve?: number, bay = 0): Promise<KvSequence | undefined> {
    if (length > parent.length) throw internalError(`fork at ${length}, the sequence has ${parent.length} positions`);
    for (const home of this.#homes(bay)) {
      const tables = await this.#forkTables(parent, (group, table) => group.fork(group.home(home), table, length, positions, reserve));
      if (tables) return this.#sequence(tables, length, bay);
    }
    return undefined;
  }

  /** Begins to bring full pages of a sequence to disk, if that is its home. Nobody may be about to fork it there. */
  store({ tables, length }: KvSequence): void {
    for (const [group, table] of tables.entries()) this.spill?.store(table, group, length);
  }

  /** Says that what was computed last may be no number: pages are cleared again before they are used again. */
  distrust(): void {
    for (const group of this.#groups) group.distrust();
  }

  [Symbol.dispose](): void {
    for (const group of this.#groups) group[Symbol.dispose]();
  }

  /** Waits until nothing is on its way to disk. */
  async [Symbol.asyncDispose](): Promise<void> {
    await this.spill?.idle();
    this[Symbol.dispose]();
  }

  /** In memory, then on disk. */
  #homes(bay: number): (number | undefined)[] {
    return this.spill ? [undefined, bay] : [undefined];
  }

  /** Undefined, and nothing held, when one of them is. */
  async #forkTables(
    parent: KvSequence,
    fork: (group: KvGroupCache, table: PageTable) => Promise<PageTable | undefined>,
  ): Promise<PageTable[] | undefined> {
    const tables: PageTable[] = [];
    try {
      for (const [i, group] of this.#groups.entries()) {
        const table = await fork(group, parent.tables[i]!);
        if (!table) return giveBack(tables);
        tables.push(table);
      }
    } catch (cause) {
      giveBack(tables);
      throw cause;
    }
    return tables;
  }

  #sequence(tables: readonly PageTable[], length: number, bay: number): KvSequence {
    const windows = this.#groups.map(({ window }) => window);
    return new KvSequence(windows, tables, length, bay);
  }
}

/** Undefined, and nothing held, when one of them is. */
function allOf(groups: readonly KvGroupCache[], open: (group: KvGroupCache) => PageTable | undefined): PageTable[] | undefined {
  const tables: PageTable[] = [];
  for (const group of groups) {
    const table = open(group);
    if (!table) return giveBack(tables);
    tables.push(table);
  }
  return tables;
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
  /** Where its pages are on disk, if there are any: micro-batches have their own. */
  readonly bay: number;

  constructor(windows: readonly number[], tables: readonly PageTable[], length: number, bay = 0) {
    this.tables = tables;
    this.length = length;
    this.bay = bay;
    const lists = new Map(windows.map((window, i) => [window, tables[i]!.pages]));
    const pages = lists.get(Infinity) ?? [];
    lists.delete(Infinity);
    this.pageLists = { pages, ...(lists.size > 0 && { windowPages: lists }) };
  }

  /** Whether it can be forked at `length`: it is so long, all of that is in memory, and no window has moved past what is seen from there. */
  reaches(length: number): boolean {
    return length <= this.length && this.tables.every((table) => table.reaches(length) && !table.isOnDisk(length));
  }

  /** Whether something of the first `length` positions is on disk, where it cannot be forked. */
  isOnDisk(length: number): boolean {
    return this.tables.some((table) => table.isOnDisk(length));
  }

  /** Gives back the pages that no position behind those it has will see. */
  slide(): void {
    for (const table of this.tables) table.slide(this.length);
  }

  [Symbol.dispose](): void {
    for (const table of this.tables) table[Symbol.dispose]();
  }
}
