import { stringify } from 'csv-stringify/sync';
import { UsageError } from '../util/errors.ts';
import { cellText, type CsvRecord, csvRecords, isValidCell } from './csv-records.ts';
import type { FileChunks } from './file-chunks.ts';
import { type RowPrompts, rowPrompts } from './row-prompt.ts';
import {
  atLine,
  freeName,
  type InputRow,
  type InputTable,
  type RowOutcome,
  type RowProblem,
  rowRequest,
  type TableSettings,
} from './rows.ts';

/** Columns of the input, and what each template column reads. */
interface Layout {
  readonly names: readonly string[];
  readonly ask: NonNullable<RowPrompts['ask']>;
  readonly positions: ReadonlyMap<string, number>;
  readonly newline: string;
  readonly settings: TableSettings;
}

/** As an end of line it would make the whole file its header. */
const BARE_CR = /\r(?!\n)/;

/**
 * Reads the header of a CSV and then its rows. Output rows are the columns of the input, then the completion, its finish reason and an
 * error; the latter two are called `finish_reason` and `error`, with the completion's name before them where the input has such a column.
 * @throws {UsageError} for a header that does not fit the settings
 */
export async function openCsv(source: FileChunks, settings: TableSettings): Promise<InputTable> {
  let newline: string | undefined;
  const watched = async function* (): AsyncGenerator<Buffer, void, void> {
    for await (const chunk of source.chunks) {
      newline ??= firstNewline(chunk);
      yield chunk;
    }
  };
  const records = csvRecords(watched());
  const first = await records.next();
  const close = async (): Promise<void> => {
    await records.return();
  };
  if (first.done === true) return { prologue: '', rows: none(), [Symbol.asyncDispose]: close };
  const layout = { ...checkedLayout(first.value, settings), newline: newline ?? '\n' };
  return {
    prologue: (source.hasBom() ? '\u{feff}' : '') + csvLine([...layout.names, ...addedColumns(layout)], layout.newline),
    rows: csvRows(records, layout),
    [Symbol.asyncDispose]: close,
  };
}

function checkedLayout(header: CsvRecord, settings: TableSettings): Omit<Layout, 'newline'> {
  const { name, column } = settings;
  if (header.broken !== undefined) throw new UsageError(`${name}, line ${header.line}: no header, ${header.broken}`);
  const decoded = header.cells.map(cellText);
  const bad = decoded.findIndex((cell) => !cell.valid);
  if (bad >= 0) throw new UsageError(`${name}: the name of column ${bad + 1} is not UTF-8; save the file as UTF-8`);
  const names = decoded.map((cell) => cell.text);
  if (names.some((cell) => BARE_CR.test(cell)))
    throw new UsageError(
      `${name}: the header has a carriage return without a newline; save the file with LF or CRLF at the end of its lines`,
    );
  const { ask, columns } = rowPrompts(settings.templates);
  if (ask === undefined) {
    const example = `{{${names[0] ?? 'column'}}}`;
    throw new UsageError(
      `a CSV needs a prompt, such as --prompt "Input: ${example}" or --user "${example}"; columns of ${name}: ${list(names)}`,
    );
  }
  if (names.includes(column)) throw new UsageError(`${name} has a column "${column}" already; choose another with --column`);
  return { names, ask, positions: columnPositions(columns, names, name), settings };
}

function columnPositions(columns: readonly string[], names: readonly string[], file: string): Map<string, number> {
  return new Map(
    columns.map((column) => {
      const matches = names.flatMap((name, i) => (name === column || name.trim() === column ? [i] : []));
      if (matches.length === 0) throw new UsageError(`the prompt's column "${column}" is not in ${file}; it has ${list(names)}`);
      if (matches.length > 1) throw new UsageError(`the prompt's column "${column}" is ${matches.length} times in ${file}; rename one`);
      return [column, matches[0] ?? 0];
    }),
  );
}

async function* csvRows(records: AsyncIterable<CsvRecord>, layout: Layout): AsyncGenerator<InputRow, void, void> {
  let index = 0;
  for await (const record of records) yield csvRow(record, index++, layout);
}

function csvRow(record: CsvRecord, index: number, layout: Layout): InputRow {
  const { line, cells } = record;
  const row = { index, line, render: (outcome: RowOutcome) => renderRow(record, outcome, layout) };
  const message = recordProblem(record, layout.names);
  if (message !== undefined) return { ...row, problem: { message, code: 'invalid_row' } };
  const prompt = layout.ask((column) => cellText(cells[layout.positions.get(column) ?? -1] ?? '').text);
  return {
    ...row,
    request: rowRequest({ prompt, params: layout.settings.params, echo: false, returnTokenIds: false, layout: 'completions' }),
  };
}

function recordProblem({ cells, broken }: CsvRecord, names: readonly string[]): string | undefined {
  if (broken !== undefined) return broken;
  const extra = cells.length - names.length;
  if (extra !== 0) {
    const dropped = extra > 0 ? `; the last ${extra} are left out here` : '';
    return `${cells.length} cells, but the header has ${names.length}${dropped}`;
  }
  const bad = cells.findIndex((cell) => !isValidCell(cell));
  return bad < 0 ? undefined : `column "${names[bad]}" is not UTF-8; wrong bytes are U+FFFD here`;
}

function renderRow({ line, cells }: CsvRecord, outcome: RowOutcome, { names, newline }: Layout): string {
  const kept = names.map((_, i) => cellText(cells[i] ?? '').text);
  return csvLine([...kept, ...resultCells(outcome, line)], newline);
}

function resultCells(outcome: RowOutcome, line: number): string[] {
  if ('completion' in outcome) return [outcome.completion.text, outcome.completion.finishReason, ''];
  const problem: RowProblem = outcome.problem;
  return ['', '', atLine(line, problem)];
}

function addedColumns({ names, settings: { column } }: Layout): string[] {
  const taken = (name: string): boolean => names.includes(name) || name === column;
  return [column, freeName('finish_reason', column, taken), freeName('error', column, taken)];
}

const csvLine = (cells: readonly string[], newline: string): string => stringify([[...cells]], { record_delimiter: newline });
const list = (names: readonly string[]): string => names.map((name) => JSON.stringify(name)).join(', ');

function firstNewline(chunk: Buffer): string | undefined {
  const at = chunk.indexOf('\n');
  if (at < 0) return undefined;
  return at > 0 && chunk[at - 1] === 13 ? '\r\n' : '\n';
}

async function* none(): AsyncGenerator<InputRow, void, void> {}
