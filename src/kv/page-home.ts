import { STAGED_PAGE } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import type { PagePool } from './page-pool.ts';

/** Where the pages of a sequence come from, and where full ones go. */
export interface PageHome {
  /** Of pages that are written to. */
  readonly memory: PagePool;
  /** Pages on disk, for full ones. Without, all pages stay in memory. */
  readonly disk?: PagePool | undefined;
  /** All pools of the group: a page may have come from a sequence whose home is another one. */
  readonly pools: readonly PagePool[];
}

/** Numbers of pages on disk begin here; like those of staged pages, which only programs see, they are larger than any number of pages in memory. */
export const DISK_PAGE: number = STAGED_PAGE;

export const isOnDisk = (page: number): boolean => page >= DISK_PAGE;

/** The pool that a page belongs to. */
export function poolOf({ pools }: PageHome, page: number): PagePool {
  const pool = pools.find((each) => each.has(page));
  if (!pool) throw internalError(`page ${page} belongs to no pool`);
  return pool;
}
