import { rename, rm } from 'node:fs/promises';
import { crashPoint } from '../util/crash-point.ts';
import { type Digest, DurableWriter, syncFolder } from '../util/durable-file.ts';
import { FlexError } from '../util/errors.ts';
import type { Journal } from './journal.ts';
import { type Finished, finishedLine, headerLine, type JournalHeader } from './journal-lines.ts';
import { JournalReader } from './journal-reader.ts';
import type { JobPaths } from './paths.ts';
import type { InputRow, RenderContext, RowOutcome } from './rows.ts';
import type { OpenTable } from './scan.ts';

/**
 * Third pass: writes the output from input and journal, in input order, and gives it its name.
 * @throws {FlexError} `input-changed` when a row is not the one that was generated
 */
export async function assemble(
  open: OpenTable,
  paths: JobPaths,
  journal: Journal,
  header: JournalHeader,
  signal: AbortSignal,
): Promise<Finished> {
  const context = { created: header.created, model: header.opened?.model ?? '' };
  try {
    const finished = await writePart(open, paths, journal, context, signal);
    await journal.finish(finished);
    crashPoint('part-written');
    await rename(paths.part, paths.output);
    crashPoint('output-renamed');
    await syncFolder(paths.folder);
    return finished;
  } catch (error) {
    await rm(paths.part, { force: true });
    throw error;
  }
}

/** Turns the journal of an assembled job into `OUT.done`. Its rows are kept only where some failed and may be tried again. */
export async function closeJob(paths: JobPaths, header: JournalHeader, finished: Finished): Promise<void> {
  if (finished.rows.failed > 0) {
    await rename(paths.journal, paths.done);
  } else {
    await writeDone(paths, header, finished);
    crashPoint('done-written');
    await rm(paths.journal, { force: true });
  }
  await syncFolder(paths.folder);
  await rm(paths.spool, { force: true });
  crashPoint('closed');
}

async function writePart(
  open: OpenTable,
  paths: JobPaths,
  journal: Journal,
  context: RenderContext,
  signal: AbortSignal,
): Promise<Finished> {
  const { table, digest } = await open();
  await using _closed = table;
  await using reader = await JournalReader.open(journal.path);
  await using writer = await DurableWriter.create(paths.part);
  const counts = { total: 0, done: 0, failed: 0, generated: 0 };
  writer.add(table.prologue);
  for await (const row of table.rows) {
    signal.throwIfAborted();
    const outcome = await outcomeOf(row, journal, reader);
    counts.total++;
    counts['problem' in outcome ? 'failed' : 'done']++;
    if ('request' in row) counts.generated++;
    writer.add(row.render(outcome, context));
    await writer.writeWhenLarge();
    crashPoint('assembling');
  }
  await writer.write();
  await writer.sync();
  const { generated, ...rows } = counts;
  const input: Digest = digest();
  return { rows, generated, input, output: writer.digest() };
}

async function outcomeOf(row: InputRow, journal: Journal, reader: JournalReader): Promise<RowOutcome> {
  if ('problem' in row) return { problem: row.problem };
  const found = journal.index.find(row.index, row.request.hash);
  if (found === undefined) {
    throw new FlexError('input-changed', `the input changed while the job ran: line ${row.line} is new; run the same command again`, {
      line: row.line,
    });
  }
  return reader.outcome(found.offset);
}

async function writeDone(paths: JobPaths, header: JournalHeader, finished: Finished): Promise<void> {
  {
    await using writer = await DurableWriter.create(paths.part);
    writer.add(headerLine(header) + finishedLine(finished));
    await writer.write();
    await writer.sync();
  }
  await rename(paths.part, paths.done);
  // The journal may go only when its successor is sure to stay.
  await syncFolder(paths.folder);
}
