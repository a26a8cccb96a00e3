import { type BatchRow, STAGED_PAGE } from '../tensor/device.ts';
import { isOnDisk } from './page-home.ts';

/** Rows of a micro-batch whose pages on disk are named as they will be staged. */
export interface StagedRows {
  readonly rows: readonly BatchRow[];
  /** Pages on disk that layers with a window read (Infinity: all positions), in the order in which they are staged. */
  readonly pages: ReadonlyMap<number, readonly number[]>;
}

/** In the order of the file, so that what lies together is read together. */
export function stageRows(rows: readonly BatchRow[]): StagedRows {
  const windows = [Infinity, ...new Set(rows.flatMap(({ windowPages }) => [...(windowPages?.keys() ?? [])]))];
  const pages = new Map(windows.map((window) => [window, diskPagesOf(rows, window)]));
  if ([...pages.values()].every((list) => list.length === 0)) return { rows, pages };
  const rename = new Map(
    [...pages].map(([window, list]) => {
      const places = new Map(list.map((page, i) => [page, STAGED_PAGE + i]));
      return [window, (all: readonly number[]): number[] => all.map((page) => places.get(page) ?? page)];
    }),
  );
  return {
    pages,
    rows: rows.map((row) => ({
      ...row,
      pages: rename.get(Infinity)!(row.pages),
      ...(row.windowPages && { windowPages: new Map([...row.windowPages].map(([window, list]) => [window, rename.get(window)!(list)])) }),
    })),
  };
}

function diskPagesOf(rows: readonly BatchRow[], window: number): number[] {
  const lists = rows.map((row) => (window === Infinity ? row.pages : (row.windowPages?.get(window) ?? [])));
  return [...new Set(lists.flat().filter(isOnDisk))].toSorted((a, b) => a - b);
}
