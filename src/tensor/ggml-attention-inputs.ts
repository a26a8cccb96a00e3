/**
 * What attention layers with one window read of a micro-batch. Rows are put into groups of similar length; the pages of a group that the
 * window reaches are gathered into one dense [rows, positions] block, where a single flash attention serves all of its rows.
 * docs/decisions/0002-paged-attention-on-ggml.md has the measurements.
 */
import { type BatchRow, NULL_PAGE, PAGE_POSITIONS } from './device.ts';
import type { GgmlTensor, TensorRequest } from './ggml-memory.ts';
import { pagesOf, pagesSeen } from './row-batch.ts';

/** Rows that share one flash attention, padded to these sizes; more rows waste more padding, fewer cost more barriers between threads. */
const GROUP_ROWS = [1, 2, 4, 8, 16] as const;
const MAX_GROUP_ROWS = 16;
/** Cache positions gathered at a time: bounds the memory of a graph, and keeps what is gathered in the processor's cache. */
const MAX_GROUP_POSITIONS = 2048;
/** Queries of a prompt chunk are padded to a multiple of this, so that shapes repeat. Padding passes attention only. */
const QUERY_STEP = 8;
/** f16 numbers of the attention mask. */
const F16_ZERO = 0;
const F16_NEGATIVE_INFINITY = 0xfc00;

/** The padded size of one group: what a graph depends on. */
export interface GroupShape {
  readonly rows: number;
  readonly queries: number;
  readonly pages: number;
}

export interface GroupInputs extends GroupShape {
  /** i32 [rows * queries]: token of each query; padding points to token 0. */
  readonly queryIds: GgmlTensor;
  /** i32 [rows * queries]: where the output goes; padding goes to row `tokenCount`, which nobody reads. */
  readonly outputIds: GgmlTensor;
  /** i32 [rows * pages]; padding points to the null page. */
  readonly pageIds: GgmlTensor;
  /** f16 [rows * queries, pages * PAGE_POSITIONS]: 0 or minus infinity. */
  readonly mask: GgmlTensor;
}

interface Group extends GroupShape {
  /** Indices into the batch's rows. */
  readonly members: readonly number[];
}

export type WriteInput = (tensor: GgmlTensor, bytes: Uint8Array) => Promise<void>;

/** Equal keys have equal graphs. */
export function attentionKey(rows: readonly BatchRow[], window: number): string {
  return groupRows(rows, window)
    .map((group) => `${group.rows}x${group.queries}x${group.pages}`)
    .join(' ');
}

export class AttentionInputs {
  readonly window: number;
  /** i32 [tokenCount]: row of the cache that each token's keys and values go to. */
  readonly append: GgmlTensor;
  readonly groups: readonly GroupInputs[];
  readonly #tokenCount: number;

  /** `tensors` were made for `requests` of the same rows. */
  constructor(rows: readonly BatchRow[], window: number, tensors: readonly GgmlTensor[]) {
    this.window = window;
    this.#tokenCount = countTokens(rows);
    const [append, ...rest] = tensors;
    this.append = append!;
    this.groups = groupRows(rows, window).map(({ rows: count, queries, pages }, i) => {
      const [queryIds, outputIds, pageIds, mask] = rest.slice(4 * i, 4 * i + 4) as [GgmlTensor, GgmlTensor, GgmlTensor, GgmlTensor];
      return { rows: count, queries, pages, queryIds, outputIds, pageIds, mask };
    });
  }

  /** The tensors that hold the inputs of `rows`. */
  static requests(rows: readonly BatchRow[], window: number): TensorRequest[] {
    const index = (name: string, length: number): TensorRequest => ({ name, dtype: 'i32', shape: [length] });
    const groups = groupRows(rows, window).flatMap(({ rows: count, queries, pages }): TensorRequest[] => [
      index('queries', count * queries),
      index('outputs', count * queries),
      index('pages', count * pages),
      { name: 'mask', dtype: 'f16', shape: [count * queries, pages * PAGE_POSITIONS] },
    ]);
    return [index('append', countTokens(rows)), ...groups];
  }

  async write(rows: readonly BatchRow[], write: WriteInput): Promise<void> {
    const append = rows.flatMap((row) => Array.from(row.tokens, (_, i) => cacheRow(row, row.start + i, this.window)));
    await write(this.append, bytesOf(Int32Array.from(append)));
    const tokenRow = firstTokens(rows);
    for (const [i, group] of groupRows(rows, this.window).entries()) await this.#writeGroup(this.groups[i]!, group, rows, tokenRow, write);
  }

  async #writeGroup(
    inputs: GroupInputs,
    group: Group,
    rows: readonly BatchRow[],
    tokenRow: readonly number[],
    write: WriteInput,
  ): Promise<void> {
    const { queries, pages } = group;
    const queryIds = new Int32Array(group.rows * queries);
    const outputIds = new Int32Array(group.rows * queries).fill(this.#tokenCount);
    const pageIds = new Int32Array(group.rows * pages).fill(NULL_PAGE);
    for (const [slot, member] of group.members.entries()) {
      const row = rows[member]!;
      pageIds.set(pagesSeen(row, this.window).pages, slot * pages);
      const token = (query: number): number => tokenRow[member]! + query;
      for (let query = 0; query < row.tokens.length; query++) queryIds[slot * queries + query] = token(query);
      for (let query = 0; query < row.tokens.length; query++) outputIds[slot * queries + query] = token(query);
    }
    await write(inputs.queryIds, bytesOf(queryIds));
    await write(inputs.outputIds, bytesOf(outputIds));
    await write(inputs.pageIds, bytesOf(pageIds));
    await write(inputs.mask, bytesOf(maskOf(group, rows, this.window)));
  }
}

function maskOf({ members, rows: slots, queries, pages }: Group, rows: readonly BatchRow[], window: number): Uint16Array {
  const positions = pages * PAGE_POSITIONS;
  const mask = new Uint16Array(slots * queries * positions).fill(F16_NEGATIVE_INFINITY);
  for (let slot = 0; slot < slots; slot++) {
    const row = slot < members.length ? rows[members[slot]!] : undefined;
    const gathered = row ? pagesSeen(row, window).first * PAGE_POSITIONS : 0;
    for (let query = 0; query < queries; query++) {
      // Padding sees one position, because a softmax over nothing would not be a number.
      const end = row && query < row.tokens.length ? row.start + query + 1 - gathered : 1;
      const at = (slot * queries + query) * positions;
      mask.fill(F16_ZERO, at + Math.max(0, end - window), at + end);
    }
  }
  return mask;
}

/** Rows of equal kind (decode or chunk) and similar length together, longest first. */
function groupRows(rows: readonly BatchRow[], window: number): Group[] {
  const sized = rows.map((row, index) => ({
    index,
    queries: paddedQueries(row.tokens.length),
    pages: pagesSeen(row, window).pages.length,
  }));
  sized.sort((a, b) => b.queries - a.queries || b.pages - a.pages || a.index - b.index);
  const groups: Group[] = [];
  for (let i = 0; i < sized.length;) {
    const { queries, pages } = sized[i]!;
    const room = Math.min(MAX_GROUP_ROWS, Math.floor(MAX_GROUP_POSITIONS / (paddedPages(pages) * PAGE_POSITIONS)));
    const size = GROUP_ROWS.findLast((n) => n <= room) ?? 1;
    let end = i + 1;
    while (end < sized.length && end - i < size && sized[end]!.queries === queries) end++;
    const members = sized.slice(i, end).map((row) => row.index);
    groups.push({ rows: GROUP_ROWS.find((n) => n >= members.length)!, queries, pages: paddedPages(pages), members });
    i = end;
  }
  return groups;
}

const paddedQueries = (queries: number): number => (queries === 1 ? 1 : Math.ceil(queries / QUERY_STEP) * QUERY_STEP);

/** Page counts are rounded up to 1, 2, 3, 4, 6, 8, 12, 16, ...: at most half is padding, and graphs are reused while a row grows. */
function paddedPages(pages: number): number {
  const power = 2 ** Math.floor(Math.log2(pages));
  return [power, power * 1.5, power * 2].find((n) => n >= pages && Number.isInteger(n))!;
}

function cacheRow(row: BatchRow, position: number, window: number): number {
  return pagesOf(row, window)[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);
}

function firstTokens(rows: readonly BatchRow[]): number[] {
  let next = 0;
  return rows.map((row) => {
    const first = next;
    next += row.tokens.length;
    return first;
  });
}

const countTokens = (rows: readonly BatchRow[]): number => rows.reduce((sum, row) => sum + row.tokens.length, 0);
const bytesOf = (array: Int32Array | Uint16Array): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
