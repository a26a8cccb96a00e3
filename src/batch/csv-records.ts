import { isUtf8 } from 'node:buffer';
import { pipeline } from 'node:stream';
import { type Info, parse } from 'csv-parse';

/** One record of a CSV file. */
export interface CsvRecord {
  /** First line of the record, from 1. */
  readonly line: number;
  /**
   * A character per byte (Latin-1), see `cellText`: keeps wrong UTF-8 apart from right, and costs nothing for cells that nobody reads.
   */
  readonly cells: readonly string[];
  /** The file cannot be read on from here. */
  readonly broken?: string;
}

/** Far above any prompt. A quote that is never closed would otherwise take in the rest of the file. */
export const MAX_RECORD_BYTES: number = 16 * 2 ** 20;

/** Records by RFC 4180; a quote inside an unquoted cell is text, blank lines are no records. */
export async function* csvRecords(chunks: AsyncIterable<Buffer>): AsyncGenerator<CsvRecord, void, void> {
  const state = { fed: 0, recordEnd: 0, tooLong: false, unclosed: false, nextLine: 1, blank: 0 };
  const toRecord = (cells: string[], info: Info): CsvRecord => {
    state.recordEnd = info.bytes;
    const line = state.nextLine + info.empty_lines - state.blank;
    state.blank = info.empty_lines;
    state.nextLine = line + 1 + countNewlines(cells);
    return { line, cells };
  };
  const parser = parse({
    encoding: 'latin1',
    record_delimiter: ['\r\n', '\n'],
    relax_column_count: true,
    relax_quotes: true,
    skip_empty_lines: true,
    skip_records_with_error: true,
    // The types of the library know no other record than its own.
    on_record: (cells, info) => toRecord(cells, info) as unknown as string[],
    on_skip: () => {
      state.unclosed = true;
      return undefined;
    },
  });
  pipeline(limited(chunks, state), parser, () => {});
  yield* withBrokenEnd(parser as AsyncIterable<unknown> as AsyncIterable<CsvRecord>, state);
}

interface ParseState {
  fed: number;
  recordEnd: number;
  tooLong: boolean;
  unclosed: boolean;
  nextLine: number;
}

/** Stops feeding the parser within a record that is too long, but reads the file to its end for those who watch its bytes. */
async function* limited(chunks: AsyncIterable<Buffer>, state: ParseState): AsyncGenerator<Buffer, void, void> {
  for await (const chunk of chunks) {
    if (state.tooLong) continue;
    state.fed += chunk.length;
    if (state.fed - state.recordEnd > MAX_RECORD_BYTES) state.tooLong = true;
    else yield chunk;
  }
}

/** Without a quote, a record that was cut for its length comes out as the last one; it is held back until that is known. */
async function* withBrokenEnd(records: AsyncIterable<CsvRecord>, state: ParseState): AsyncGenerator<CsvRecord, void, void> {
  let held: CsvRecord | undefined;
  for await (const record of records) {
    if (held !== undefined) yield held;
    held = record;
  }
  if (!state.tooLong && !state.unclosed) {
    if (held !== undefined) yield held;
    return;
  }
  if (state.unclosed && held !== undefined) yield held;
  const line = state.unclosed ? state.nextLine : (held?.line ?? 1);
  const what = state.unclosed ? 'a quote is opened and never closed' : 'the row does not end';
  const where = state.tooLong ? `within ${MAX_RECORD_BYTES} bytes` : 'before the end of the file';
  yield { line, cells: [], broken: `${what} ${where}; the rest of the file was not read` };
}

/** @returns text of a cell, and whether its bytes were UTF-8; wrong ones become U+FFFD */
export function cellText(cell: string): { readonly text: string; readonly valid: boolean } {
  if (!hasHighBytes(cell)) return { text: cell, valid: true };
  const bytes = Buffer.from(cell, 'latin1');
  return { text: bytes.toString('utf8'), valid: isUtf8(bytes) };
}

export function isValidCell(cell: string): boolean {
  return !hasHighBytes(cell) || isUtf8(Buffer.from(cell, 'latin1'));
}

const hasHighBytes = (cell: string): boolean => /[\u0080-\u00ff]/.test(cell);

function countNewlines(cells: readonly string[]): number {
  let count = 0;
  for (const cell of cells) for (let at = cell.indexOf('\n'); at >= 0; at = cell.indexOf('\n', at + 1)) count++;
  return count;
}
