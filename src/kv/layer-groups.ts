import { PAGE_POSITIONS } from '../tensor/device.ts';
import { type KvType, byteLengthOf } from '../tensor/dtype.ts';

export interface KvShape {
  /** Positions that each attending layer sees, its window; Infinity sees all. */
  readonly windows: readonly number[];
  /** Number of each of them in the model. Default: their own. */
  readonly modelLayers?: readonly number[];
  /** kvHeads * headDim */
  readonly columns: number;
  readonly type: KvType;
  /** Most positions of a sequence that are written at once. */
  readonly chunk: number;
}

/** Layers that see the same positions need the same pages, so they share page numbers. */
export interface KvGroup {
  readonly window: number;
  /** Indices among the attending layers. */
  readonly layers: readonly number[];
}

/** In the order in which the windows first occur. */
export function layerGroups(windows: readonly number[]): KvGroup[] {
  return [...new Set(windows)].map((window) => ({
    window,
    layers: windows.flatMap((other, layer) => (other === window ? [layer] : [])),
  }));
}

/** Pages of `positions` positions. */
export const pagesFor = (positions: number): number => Math.ceil(positions / PAGE_POSITIONS);

/** The first page that holds a position which the query at `position` sees. */
export const firstSeenPage = (position: number, window: number): number =>
  Math.max(0, Math.floor((position + 1 - window) / PAGE_POSITIONS));

/**
 * Pages that a sequence of up to `positions` holds at most at a time: those of all positions, or of a window and what is written behind
 * it. The chunk's first query sees window - 1 positions before itself; so many positions in a row touch one page more than they fill.
 */
export function heldPages(positions: number, window: number, chunk: number): number {
  const span = window - 1 + chunk;
  return Math.min(pagesFor(positions), Math.floor((span - 2) / PAGE_POSITIONS) + 2);
}

/** Bytes of one page in so many layers, keys and values together. */
export function pageBytes({ columns, type }: Pick<KvShape, 'columns' | 'type'>, layers: number): number {
  return 2 * layers * byteLengthOf(type, PAGE_POSITIONS * columns);
}
