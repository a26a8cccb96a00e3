import { type Device, type KvLayer, NULL_PAGE, PAGE_POSITIONS, type Tensor } from '../tensor/device.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import { type KvGroup, type KvShape, firstSeenPage, heldPages, pagesFor } from './layer-groups.ts';
import { DISK_PAGE, isOnDisk, type PageHome } from './page-home.ts';
import { PagePool } from './page-pool.ts';
import { PageTable } from './page-table.ts';

/** How many pages a group of layers has. */
export interface GroupPages {
  /** Of sequences that stay in memory. */
  readonly memory: number;
  /** Pages in memory for sequences whose full pages go to disk: those that are written to, and those on their way. */
  readonly working: number;
  /** Pages on disk of the sequences of each bay. */
  readonly bay: number;
  /** Sequences of different bays are never read together: each micro-batch has its own. */
  readonly bays: number;
}

/** Keys and values of the layers of one group: per layer two tensors of pages. */
export class KvGroupCache implements Disposable {
  readonly window: number;
  /** Of the group, in order. */
  readonly layers: readonly KvLayer[];
  readonly #device: Device;
  readonly #memory: PagePool;
  readonly #working: PagePool;
  readonly #bays: readonly PagePool[];
  readonly #chunk: number;
  readonly #zeros: Uint8Array;
  /** Pages that hold finite numbers; memory comes uninitialised, and a masked NaN would still spread. */
  readonly #clean = new Set<number>();

  /** @throws {MemoryError} */
  constructor(device: Device, shape: KvShape, group: KvGroup, { memory, working, bay, bays }: GroupPages) {
    this.window = group.window;
    this.#device = device;
    this.#memory = new PagePool(memory);
    this.#working = new PagePool(working, this.#memory.first + memory);
    this.#bays = Array.from({ length: bay > 0 ? bays : 0 }, (_, i) => new PagePool(bay, DISK_PAGE + i * bay));
    this.#chunk = shape.chunk;
    this.#zeros = new Uint8Array(byteLengthOf(shape.type, PAGE_POSITIONS * shape.columns));
    const tensors: Tensor[] = [];
    const allocate = (name: string, layer: number): Tensor => {
      const tensor = device.allocate(
        name,
        shape.type,
        [(memory + working + 1) * PAGE_POSITIONS, shape.columns],
        shape.modelLayers?.[layer] ?? layer,
      );
      tensors.push(tensor);
      return tensor;
    };
    try {
      this.layers = group.layers.map((i) => ({ keys: allocate(`keys ${i}`, i), values: allocate(`values ${i}`, i) }));
    } catch (cause) {
      for (const tensor of tensors) tensor[Symbol.dispose]();
      throw cause;
    }
  }

  /** Has the memory given before it is written to. */
  async claim(): Promise<void> {
    const tensors = this.#device.claim ? this.layers.flatMap(({ keys, values }) => [keys, values]) : [];
    await Promise.all(tensors.map(async (tensor) => this.#device.claim?.(tensor)));
  }

  /** In memory. */
  get capacityPages(): number {
    return this.#memory.capacity + this.#working.capacity;
  }

  /** In memory. */
  get availablePages(): number {
    return this.#memory.available + this.#working.available;
  }

  /** The most pages that one sequence may have. */
  get mostPages(): number {
    return Math.max(this.#memory.capacity, this.#bays[0]?.capacity ?? 0);
  }

  /** Pages that a sequence of up to `positions` holds at most. */
  pagesNeeded(positions: number): number {
    return heldPages(positions, this.window, this.#chunk);
  }

  /** Where a sequence may live: in memory, or with its full pages in a bay on disk. */
  home(bay: number | undefined): PageHome {
    const pools = [this.#memory, this.#working, ...this.#bays];
    return bay === undefined ? { memory: this.#memory, pools } : { memory: this.#working, disk: this.#bays[bay], pools };
  }

  /** An empty table for up to `positions`, `reserve` of them reserved, or undefined while there is no room. */
  open(home: PageHome, positions: number, reserve?: number): PageTable | undefined {
    return PageTable.open(home, { positions, window: this.window, chunk: this.#chunk, reserve });
  }

  /** Takes the pages of `length` positions. @returns whether there were enough; those that were stay taken */
  async extend(table: PageTable, length: number): Promise<boolean> {
    await this.#clear(NULL_PAGE);
    while (table.pages.length < pagesFor(length)) {
      const page = table.takePage();
      if (page === undefined) return false;
      await this.#clear(page);
    }
    return true;
  }

  /**
   * A table for up to `positions` that starts with the first `length` of `parent`'s, or undefined while there is no room. Full pages are
   * shared unless one of the two gives pages back before its end; what is not shared is copied, as far as a later position sees it.
   */
  async fork(home: PageHome, parent: PageTable, length: number, positions: number, reserve = positions): Promise<PageTable | undefined> {
    const limits = { positions: Math.max(positions, length), window: this.window, chunk: this.#chunk, reserve: Math.max(reserve, length) };
    const shares = parent.sharable && this.pagesNeeded(limits.positions) === pagesFor(limits.positions);
    const child = PageTable.open(home, limits, shares ? parent.pages.slice(0, Math.floor(length / PAGE_POSITIONS)) : []);
    if (!child) return undefined;
    try {
      if (await this.#copyPages(parent, child, length)) return child;
    } catch (cause) {
      child[Symbol.dispose]();
      throw cause;
    }
    child[Symbol.dispose]();
    return undefined;
  }

  /** Pages are cleared again before they are used again. */
  distrust(): void {
    this.#clean.clear();
  }

  [Symbol.dispose](): void {
    for (const { keys, values } of this.layers) {
      keys[Symbol.dispose]();
      values[Symbol.dispose]();
    }
  }

  /** @returns whether there were pages enough */
  async #copyPages(parent: PageTable, child: PageTable, length: number): Promise<boolean> {
    const first = firstSeenPage(length, this.window);
    while (child.pages.length < pagesFor(length)) {
      const index = child.pages.length;
      if (index < first) {
        child.skipPage();
        continue;
      }
      const from = parent.pages[index]!;
      if (from === NULL_PAGE || isOnDisk(from)) throw internalError(`fork at ${length}: page ${index} is not in memory any more`);
      const to = child.takePage();
      if (to === undefined) return false; // those of sequences whose home is the disk are not reserved
      await this.#copyPage(from, to);
      this.#clean.add(to);
    }
    return true;
  }

  async #clear(page: number): Promise<void> {
    if (this.#clean.has(page)) return;
    const bytes = this.#zeros.byteLength;
    for (const { keys, values } of this.layers) {
      await this.#device.write(keys, page * bytes, this.#zeros);
      await this.#device.write(values, page * bytes, this.#zeros);
    }
    this.#clean.add(page);
  }

  async #copyPage(from: number, to: number): Promise<void> {
    const bytes = this.#zeros.byteLength;
    for (const { keys, values } of this.layers) {
      await this.#device.copy(keys, from * bytes, keys, to * bytes, bytes);
      await this.#device.copy(values, from * bytes, values, to * bytes, bytes);
    }
  }
}
