import { createReadStream } from 'node:fs';
import { UsageError } from '../util/errors.ts';
import { fileExists } from '../util/durable-file.ts';
import { byteLines } from './byte-lines.ts';
import { JournalIndex } from './journal-index.ts';
import { type Finished, JOURNAL_VERSION, type JournalHeader, parseHeader, parseLine } from './journal-lines.ts';
import { MAX_LINE_BYTES } from './jsonl-table.ts';

/** What an earlier run left. */
export interface JournalContent {
  readonly header: JournalHeader;
  readonly index: JournalIndex;
  /** Lines of rows, error rows included. */
  readonly rowLines: number;
  /** The last one. */
  readonly finished?: Finished;
  /** Bytes up to the end of the last whole line; what follows was being written when the process died. */
  readonly validBytes: number;
}

/** Results are longer than prompts by their log-probabilities. */
const MAX_JOURNAL_LINE_BYTES = 16 * MAX_LINE_BYTES;

/**
 * @returns undefined when there is no such file, or only the beginning of a header
 * @throws {UsageError} when the file is no journal of ours
 */
export async function readJournal(path: string): Promise<JournalContent | undefined> {
  if (!(await fileExists(path))) return undefined;
  const lines = byteLines(createReadStream(path) as AsyncIterable<Buffer>, MAX_JOURNAL_LINE_BYTES);
  const first = await lines.next();
  if (first.done === true || !first.value.ended) {
    await lines.return();
    return undefined;
  }
  const header = checkedHeader(first.value.bytes?.toString() ?? '', path);
  const index = new JournalIndex();
  let validBytes = (first.value.bytes?.length ?? 0) + 1;
  let finished: Finished | undefined;
  let rowLines = 0;
  for await (const { bytes, start, ended } of lines) {
    const line = ended && bytes !== undefined ? parseLine(bytes.toString()) : undefined;
    if (line === undefined || bytes === undefined) break;
    if ('finished' in line) finished = line.finished;
    else if (!JournalIndex.holds(line.row)) break;
    else {
      index.set(line.row, line.hash, start, 'problem' in line.outcome);
      rowLines++;
    }
    validBytes = start + bytes.length + 1;
  }
  return { header, index, rowLines, validBytes, ...(finished && { finished }) };
}

function checkedHeader(text: string, path: string): JournalHeader {
  const header = parseHeader(text);
  if (header === undefined) throw new UsageError(`${path} is not a journal of this program; move it away, or use another output`);
  if (header.version !== JOURNAL_VERSION) {
    const versions = `format ${header.version}, this version of the program reads ${JOURNAL_VERSION}`;
    throw new UsageError(`${path} has ${versions}; finish the job with the program that began it, or begin anew with --restart`);
  }
  return { ...header, version: JOURNAL_VERSION };
}
