import { internalError } from '../util/errors.ts';
import { type Batch, type BatchRow, PAGE_POSITIONS } from './device.ts';
import type { OpGraph } from './op-graph.ts';

/** Devices whose programs depend on the number of tokens only need no more of a shape than that. */
export function tokenCountKey(rows: readonly BatchRow[]): string {
  return `${rows.reduce((sum, row) => sum + row.tokens.length, 0)} tokens`;
}

/** Pages of a row in the layers with this window. */
export const pagesOf = ({ pages, windowPages }: BatchRow, window: number): readonly number[] => windowPages?.get(window) ?? pages;

/** Pages that attention with a window reads for a row, and the index of the first of them among the pages of the whole row. */
export function pagesSeen(row: BatchRow, window: number): { first: number; pages: readonly number[] } {
  const { start, tokens } = row;
  const first = Math.max(0, Math.floor((start + 1 - window) / PAGE_POSITIONS));
  return { first, pages: pagesOf(row, window).slice(first, Math.ceil((start + tokens.length) / PAGE_POSITIONS)) };
}

/** Whether each token belongs to a sequence of more than `limit` positions. */
export function isLong(rows: readonly BatchRow[], limit: number): boolean[] {
  return rows.flatMap(({ tokens, start, total = start + tokens.length }) => Array.from(tokens, () => total > limit));
}

/** A batch that keeps its rows as they are, for devices that read them in JavaScript. */
export class RowBatch implements Batch {
  readonly key: string;
  readonly tokenCount: number;
  #rows: readonly BatchRow[] | undefined;
  #disposed = false;

  constructor(rows: readonly BatchRow[]) {
    this.key = tokenCountKey(rows);
    this.tokenCount = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  }

  /** The rows that the last `write` left. Throws before the first one and after disposal. */
  rows(): readonly BatchRow[] {
    this.#checkOpen();
    if (!this.#rows) throw internalError(`batch of ${this.key} is read before it was written`);
    return this.#rows;
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    this.#checkOpen();
    const key = tokenCountKey(rows);
    if (key !== this.key) throw internalError(`rows with ${key} written to a batch of ${this.key}`);
    this.#rows = ownRows(rows);
  }

  [Symbol.dispose](): void {
    this.#disposed = true;
    this.#rows = undefined;
  }

  #checkOpen(): void {
    if (this.#disposed) throw internalError(`batch of ${this.key} is used after it was disposed`);
  }
}

/** Throws unless every node of the graph that reads a batch fits this one. */
export function checkBatch(graph: OpGraph, batch: Batch | undefined): void {
  for (const { op, out } of graph.nodes) {
    if (op !== 'embed' && op !== 'attention' && op !== 'rope' && op !== 'byLength') continue;
    if (!batch) throw internalError(`graph ${graph.name}: ${op} needs a batch`);
    if (out.rows !== batch.tokenCount)
      throw internalError(`graph ${graph.name}: ${op} has ${out.rows} rows, its batch ${batch.tokenCount}`);
  }
}

/** The caller may reuse its arrays once a batch is made. */
function ownRows(rows: readonly BatchRow[]): readonly BatchRow[] {
  return rows.map(({ tokens, start, pages, windowPages, total = start + tokens.length, prompt = Infinity }) => {
    const needed = Math.ceil((start + tokens.length) / PAGE_POSITIONS);
    if (tokens.length === 0 || start < 0) throw internalError(`a row has ${tokens.length} tokens from position ${start} on`);
    const lists = windowPages ? [...windowPages.values(), ...(pages.length > 0 ? [pages] : [])] : [pages];
    for (const { length } of lists)
      if (length < needed) throw internalError(`a row of ${start + tokens.length} positions has ${length} pages, ${needed} needed`);
    const copies = windowPages && new Map(Array.from(windowPages, ([window, list]) => [window, [...list]]));
    return { tokens: tokens.slice(), start, pages: [...pages], total, prompt, ...(copies && { windowPages: copies }) };
  });
}
