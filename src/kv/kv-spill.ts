/** Pages of the cache on disk: full ones are written once, and read again for every layer that attends to them. */
import type { SpillFile } from '../native/spill-file.ts';
import { type Device, type KvLayer, type KvPages, PAGE_POSITIONS, type Tensor } from '../tensor/device.ts';
import { byteLengthOf } from '../tensor/dtype.ts';
import type { LaneLog } from '../util/lanes.ts';
import { type KvShape, layerGroups } from './layer-groups.ts';
import { DISK_PAGE, poolOf } from './page-home.ts';
import type { PageTable } from './page-table.ts';

/** Bytes that one transfer moves at most: as many as disks take at once at their full rate, so few that several are under way. */
const PIECE_BYTES = 4 << 20;

export interface SpillParts {
  readonly device: Device;
  readonly shape: KvShape;
  /** Of the attending layers, in their order. */
  readonly layers: readonly KvLayer[];
  /** On disk, of each group of layers. */
  readonly pages: readonly number[];
  readonly file: SpillFile;
  readonly lanes?: LaneLog | undefined;
}

/** A page that is being copied to disk. It is read where it is until then. */
interface Move {
  readonly table: PageTable;
  readonly index: number;
  readonly page: number;
  readonly diskPage: number;
  ended: boolean;
}

/** Bytes of one page of keys or of values in one layer. */
export const diskPageBytes = ({ type, columns }: Pick<KvShape, 'type' | 'columns'>): number => byteLengthOf(type, PAGE_POSITIONS * columns);

/** Bytes of the file that holds so many pages of each group of layers. */
export function spillBytes(shape: KvShape, pages: readonly number[]): number {
  return layerGroups(shape.windows).reduce((sum, { layers }, i) => sum + 2 * layers.length * pages[i]! * diskPageBytes(shape), 0);
}

/**
 * The file has for each attending layer all pages of keys, then all pages of values: what is read together follows each other as far as pages have followed
 * each other when they were written.
 */
export class KvSpill {
  readonly #parts: SpillParts;
  readonly #pageBytes: number;
  /** Where each layer's keys begin in the file, and its values. */
  readonly #starts: readonly { readonly keys: number; readonly values: number }[];
  readonly #layersOf: readonly (readonly number[])[];
  readonly #moves = new Set<Move>();
  #writing: Promise<unknown> = Promise.resolve();
  #failure: { readonly cause: unknown } | undefined;

  constructor(parts: SpillParts) {
    this.#parts = parts;
    this.#pageBytes = diskPageBytes(parts.shape);
    const groups = layerGroups(parts.shape.windows);
    this.#layersOf = groups.map(({ layers }) => layers);
    let next = 0;
    this.#starts = parts.layers.map((_, layer) => {
      const bytes = parts.pages[groups.findIndex(({ layers }) => layers.includes(layer))]! * this.#pageBytes;
      const start = { keys: next, values: next + bytes };
      next += 2 * bytes;
      return start;
    });
  }

  /** Begins to copy the full pages of a table that have room on disk. They rest there after a later `settle`. */
  store(table: PageTable, group: number, positions: number): void {
    const moves = [...table.storable(positions)].map((index) => {
      const page = table.pages[index]!;
      poolOf(table.home, page).retain(page); // whatever becomes of the sequence, it is not written over meanwhile
      return { table, index, page, diskPage: table.takeDiskPage(index), ended: false };
    });
    for (const move of moves) this.#moves.add(move);
    for (const run of runsOf(moves)) {
      const copied = this.#writing.then(() => this.#write(run, group));
      this.#writing = copied.catch((cause: unknown) => void (this.#failure ??= { cause }));
    }
  }

  /** Gives the memory of pages back that have been copied. @throws what writing one threw */
  settle(): void {
    for (const move of this.#moves) {
      if (!move.ended) continue;
      this.#moves.delete(move);
      const { table, index, page, diskPage } = move;
      poolOf(table.home, page).release(page);
      if (this.#failure || !table.moved(index, page, diskPage)) poolOf(table.home, diskPage).release(diskPage);
    }
    if (!this.#failure) return;
    const { cause } = this.#failure;
    this.#failure = undefined;
    throw cause;
  }

  /** Waits for pages on their way. @returns whether there were any, whose memory `settle` gives back */
  async idle(): Promise<boolean> {
    const some = this.#moves.size > 0;
    await this.#writing;
    return some;
  }

  /** Brings all pages to disk that are on their way. @throws what writing one threw */
  async flush(): Promise<void> {
    await this.idle();
    this.settle();
  }

  /** Reads pages on disk into the first pages of `target`, in their order. @returns bytes */
  async load(layer: number, pages: readonly number[], target: KvPages): Promise<number> {
    const { keys, values } = this.#starts[layer]!;
    const pieces = piecesOf(pages, Math.max(1, Math.floor(PIECE_BYTES / this.#pageBytes)));
    await Promise.all(pieces.flatMap((piece) => [this.#read(target.keys, keys, piece), this.#read(target.values, values, piece)]));
    return 2 * pages.length * this.#pageBytes;
  }

  async #write(run: readonly Move[], group: number): Promise<void> {
    try {
      if (this.#failure) return;
      const end = this.#parts.lanes?.start('disk write', 'cache', 2 * this.#layersOf[group]!.length * run.length * this.#pageBytes);
      await Promise.all(this.#layersOf[group]!.flatMap((layer) => this.#writeLayer(run, layer)));
      end?.();
    } finally {
      for (const move of run) move.ended = true;
    }
  }

  #writeLayer(run: readonly Move[], layer: number): Promise<void>[] {
    const { keys, values } = this.#parts.layers[layer]!;
    const starts = this.#starts[layer]!;
    return [[keys, starts.keys] as const, [values, starts.values] as const].map(([tensor, start]) => {
      const { page, diskPage } = run[0]!;
      return this.#save(tensor, page * this.#pageBytes, run.length * this.#pageBytes, start + (diskPage - DISK_PAGE) * this.#pageBytes);
    });
  }

  async #save(tensor: Tensor, offset: number, byteLength: number, start: number): Promise<void> {
    const { device, file } = this.#parts;
    if (device.view) return file.write(start, device.view(tensor, offset, byteLength));
    const bytes = new Uint8Array(byteLength);
    await device.read(tensor, offset, bytes);
    await file.write(start, bytes);
  }

  async #read(tensor: Tensor, start: number, { first, count, place }: Piece): Promise<void> {
    const { device, file } = this.#parts;
    const from = start + (first - DISK_PAGE) * this.#pageBytes;
    const [offset, byteLength] = [place * this.#pageBytes, count * this.#pageBytes];
    if (device.view) return file.read(from, device.view(tensor, offset, byteLength));
    const bytes = new Uint8Array(byteLength);
    await file.read(from, bytes);
    await device.write(tensor, offset, bytes);
  }
}

/** Pages that follow each other in the file and in memory. */
interface Piece {
  readonly first: number;
  readonly count: number;
  /** The page of the target that the first one goes to. */
  readonly place: number;
}

function piecesOf(pages: readonly number[], most: number): Piece[] {
  const pieces: { first: number; count: number; place: number }[] = [];
  for (const [place, page] of pages.entries()) {
    const last = pieces.at(-1);
    if (last && page === last.first + last.count && last.count < most) last.count++;
    else pieces.push({ first: page, count: 1, place });
  }
  return pieces;
}

/** Moves whose pages follow each other in memory and on disk are one. */
function runsOf(moves: readonly Move[]): Move[][] {
  const runs: Move[][] = [];
  for (const move of moves) {
    const last = runs.at(-1)?.at(-1);
    if (last && move.page === last.page + 1 && move.diskPage === last.diskPage + 1) runs.at(-1)!.push(move);
    else runs.push([move]);
  }
  return runs;
}
