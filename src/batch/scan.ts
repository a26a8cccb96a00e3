import type { ExpectedRows, PromptInput } from '../requests.ts';
import type { Digest } from '../util/durable-file.ts';
import { openCsv } from './csv-table.ts';
import { RowSizes } from './expected-rows.ts';
import { fileChunks } from './file-chunks.ts';
import type { JournalIndex } from './journal-index.ts';
import { openJsonl } from './jsonl-table.ts';
import type { TableFormat } from './paths.ts';
import type { InputTable, TableSettings } from './rows.ts';

/** Opens an input for one pass. */
export type OpenTable = () => Promise<{
  readonly table: InputTable;
  /** Complete when all rows were read. */ readonly digest: () => Digest;
}>;

export interface ScanResult {
  readonly total: number;
  /** Rows that are no requests. */
  readonly refused: number;
  readonly reused: { readonly done: number; readonly failed: number };
  /** Rows to generate. */
  readonly pending: number;
  /** Those. */
  readonly expected: ExpectedRows;
  /** Line of the first of them that is a conversation. */
  readonly conversation: number | undefined;
  /** There are several requests, and all ask for the same. */
  readonly allAlike: boolean;
  readonly input: Digest;
}

/** How often a pass looks up: rows between two reports. */
const REPORT_ROWS = 10_000;

export function tableOpener(path: string, format: TableFormat, settings: TableSettings): OpenTable {
  return async () => {
    const source = fileChunks(path);
    const table = format === 'csv' ? await openCsv(source, settings) : openJsonl(source, settings);
    return { table, digest: source.digest };
  };
}

/** First pass: counts, checks, and finds what is left to generate. Keeps nothing of the rows. */
export async function scanTable(
  open: OpenTable,
  isPending: (row: number, hash: bigint) => boolean,
  index: JournalIndex,
  onRows: (rows: number) => void,
): Promise<ScanResult> {
  const { table, digest } = await open();
  await using _closed = table;
  const counts = { total: 0, refused: 0, done: 0, failed: 0, pending: 0 };
  const sizes = new RowSizes();
  const hashes = new Set<bigint>();
  let conversation: number | undefined;
  for await (const row of table.rows) {
    // Two are enough to tell that they differ.
    if ('request' in row && hashes.size < 2) hashes.add(row.request.hash);
    if (++counts.total % REPORT_ROWS === 0) onRows(counts.total);
    if ('problem' in row) counts.refused++;
    else if (isPending(row.index, row.request.hash)) {
      counts.pending++;
      sizes.add(row.request);
      if (isConversation(row.request.prompt)) conversation ??= row.line;
    } else if (index.find(row.index, row.request.hash)?.failed === true) counts.failed++;
    else counts.done++;
  }
  const { total, refused, done, failed, pending } = counts;
  const allAlike = hashes.size === 1 && total - refused > 1;
  return { total, refused, reused: { done, failed }, pending, expected: sizes.expected, conversation, allAlike, input: digest() };
}

const isConversation = (prompt: PromptInput): boolean => typeof prompt === 'object' && 'messages' in prompt;
