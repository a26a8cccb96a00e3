/**
 * Inputs of one micro-batch for ggml, which has no attention over pages. Rows are put into groups of similar length; a group's pages are
 * gathered into one dense [rows, positions] block, where a single flash attention serves all of its rows. All indices are inputs, so that
 * a graph depends on the shape of its groups only. docs/decisions/0002-paged-attention-on-ggml.md has the measurements.
 */
import { FlexError, internalError } from '../util/errors.ts';
import { type Batch, type BatchRow, NULL_PAGE, PAGE_POSITIONS } from './device.ts';
import type { GgmlTensor, TensorGroup, TensorRequest } from './ggml-memory.ts';

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
  /** f16 [rows * queries, pages * PAGE_POSITIONS]: 0 or minus infinity. One for each window of the batch. */
  mask(window: number): GgmlTensor;
}

interface Group extends GroupShape {
  /** Indices into the batch's rows. */
  readonly members: readonly number[];
}

export type AllocateInputs = (requests: readonly TensorRequest[]) => TensorGroup;
export type WriteInput = (tensor: GgmlTensor, bytes: Uint8Array) => Promise<void>;

/** Equal keys have equal graphs. */
export function batchKey(rows: readonly BatchRow[]): string {
  const tokenCount = rows.reduce((sum, row) => sum + row.tokens.length, 0);
  return [tokenCount, ...groupRows(rows).map((g) => `${g.rows}x${g.queries}x${g.pages}`)].join(' ');
}

export class GgmlBatch implements Batch {
  readonly key: string;
  readonly tokenCount: number;
  readonly tokens: GgmlTensor;
  readonly positions: GgmlTensor;
  /** i32 [tokenCount]: row of the cache that each token's keys and values go to. */
  readonly append: GgmlTensor;
  readonly groups: readonly GroupInputs[];
  readonly #windows: readonly number[];
  readonly #memory: TensorGroup;
  readonly #write: WriteInput;

  constructor(allocate: AllocateInputs, write: WriteInput, rows: readonly BatchRow[], windows: readonly number[] = [Infinity]) {
    this.#windows = windows;
    this.key = batchKey(rows);
    this.tokenCount = rows.reduce((sum, row) => sum + row.tokens.length, 0);
    const groups = groupRows(rows);
    const index = (name: string, length: number): TensorRequest => ({ name, dtype: 'i32', shape: [length] });
    const requests = ['tokens', 'positions', 'append'].map((name) => index(name, this.tokenCount));
    for (const g of groups) {
      const queries = g.rows * g.queries;
      requests.push(index('queries', queries), index('outputs', queries), index('pages', g.rows * g.pages));
      for (const _ of windows) requests.push({ name: 'mask', dtype: 'f16', shape: [queries, g.pages * PAGE_POSITIONS] });
    }
    this.#memory = allocate(requests);
    this.#write = write;
    const [tokens, positions, append, ...rest] = this.#memory.tensors;
    this.tokens = tokens!;
    this.positions = positions!;
    this.append = append!;
    this.groups = groups.map(({ rows: count, queries, pages }, i) => {
      const size = 3 + windows.length;
      const [queryIds, outputIds, pageIds, ...masks] = rest.slice(size * i, size * (i + 1)) as [GgmlTensor, GgmlTensor, GgmlTensor];
      const mask = (window: number): GgmlTensor => masks[windows.indexOf(window)] ?? unknownWindow(window, windows);
      return { rows: count, queries, pages, queryIds, outputIds, pageIds, mask };
    });
  }

  async write(rows: readonly BatchRow[]): Promise<void> {
    if (batchKey(rows) !== this.key) throw new FlexError('shape', `batch ${this.key}: rows of shape ${batchKey(rows)} written to it`);
    const tokenRow = firstTokens(rows);
    await this.#write(this.tokens, bytesOf(Int32Array.from(rows.flatMap((row) => [...row.tokens]))));
    await this.#write(this.positions, bytesOf(Int32Array.from(rows.flatMap((row) => Array.from(row.tokens, (_, i) => row.start + i)))));
    await this.#write(
      this.append,
      bytesOf(Int32Array.from(rows.flatMap((row) => Array.from(row.tokens, (_, i) => cacheRow(row, row.start + i))))),
    );
    for (const [i, group] of groupRows(rows).entries()) await this.#writeGroup(this.groups[i]!, group, rows, tokenRow);
  }

  [Symbol.dispose](): void {
    this.#memory[Symbol.dispose]();
  }

  async #writeGroup(inputs: GroupInputs, group: Group, rows: readonly BatchRow[], tokenRow: readonly number[]): Promise<void> {
    const { queries, pages } = group;
    const queryIds = new Int32Array(group.rows * queries);
    const outputIds = new Int32Array(group.rows * queries).fill(this.tokenCount);
    const pageIds = new Int32Array(group.rows * pages).fill(NULL_PAGE);
    for (let slot = 0; slot < group.rows; slot++) {
      const member = group.members[slot];
      const row = member === undefined ? undefined : rows[member]!;
      if (row) pageIds.set(row.pages.slice(0, pages), slot * pages);
      for (let query = 0; query < queries; query++) {
        const at = slot * queries + query;
        const real = row !== undefined && query < row.tokens.length;
        if (real) {
          queryIds[at] = tokenRow[member!]! + query;
          outputIds[at] = tokenRow[member!]! + query;
        }
      }
    }
    await this.#write(inputs.queryIds, bytesOf(queryIds));
    await this.#write(inputs.outputIds, bytesOf(outputIds));
    await this.#write(inputs.pageIds, bytesOf(pageIds));
    for (const window of this.#windows) await this.#write(inputs.mask(window), bytesOf(maskOf(group, rows, window)));
  }
}

function maskOf({ members, rows: slots, queries, pages }: Group, rows: readonly BatchRow[], window: number): Uint16Array {
  const positions = pages * PAGE_POSITIONS;
  const mask = new Uint16Array(slots * queries * positions).fill(F16_NEGATIVE_INFINITY);
  for (let slot = 0; slot < slots; slot++) {
    const row = slot < members.length ? rows[members[slot]!] : undefined;
    for (let query = 0; query < queries; query++) {
      // Padding sees one position, because a softmax over nothing would not be a number.
      const end = row && query < row.tokens.length ? row.start + query + 1 : 1;
      const at = (slot * queries + query) * positions;
      mask.fill(F16_ZERO, at + Math.max(0, end - window), at + end);
    }
  }
  return mask;
}

function unknownWindow(window: number, windows: readonly number[]): never {
  throw internalError(`attention with window ${window} reads a batch made for windows ${windows.join(', ')}`);
}

/** Rows of equal kind (decode or chunk) and similar length together, longest first. */
function groupRows(rows: readonly BatchRow[]): Group[] {
  const sized = rows.map((row, index) => ({ index, queries: paddedQueries(row.tokens.length), pages: usedPages(row) }));
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
const usedPages = (row: BatchRow): number => Math.ceil((row.start + row.tokens.length) / PAGE_POSITIONS);

/** Page counts are rounded up to 1, 2, 3, 4, 6, 8, 12, 16, ...: at most half is padding, and graphs are reused while a row grows. */
function paddedPages(pages: number): number {
  const power = 2 ** Math.floor(Math.log2(pages));
  return [power, power * 1.5, power * 2].find((n) => n >= pages && Number.isInteger(n))!;
}

const cacheRow = (row: BatchRow, position: number): number =>
  row.pages[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);

function firstTokens(rows: readonly BatchRow[]): number[] {
  let next = 0;
  return rows.map((row) => {
    const first = next;
    next += row.tokens.length;
    return first;
  });
}

const bytesOf = (array: Int32Array | Uint16Array): Uint8Array => new Uint8Array(array.buffer, array.byteOffset, array.byteLength);
