import { rm, stat } from 'node:fs/promises';
import type { TextGenerator } from '../requests.ts';
import { digestFile, fileExists } from '../util/durable-file.ts';
import { DiskFullError } from '../util/system-errors.ts';
import { UsageError } from '../util/errors.ts';
import { assemble, closeJob } from './assemble.ts';
import { discardEarlier, type Earlier, findEarlier, isEqual, reopen } from './earlier.ts';
import { generateRows } from './generate.ts';
import { DEFAULT_COLUMN, differences, jobSettings } from './identity.ts';
import { Journal } from './journal.ts';
import type { JournalContent } from './journal-file.ts';
import { JournalIndex } from './journal-index.ts';
import { type Finished, JOURNAL_KIND, JOURNAL_VERSION, type JournalHeader } from './journal-lines.ts';
import { acquireLock } from '../util/lock.ts';
import { type JobPaths, resolveFormat, resolvePaths, type TableFormat } from './paths.ts';
import { checkTemplates, promptNotice } from './row-prompt.ts';
import { type OpenTable, type ScanResult, scanTable, tableOpener } from './scan.ts';
import { spool } from './spool.ts';
import { type JobTracker, trackJob } from './tracker.ts';
import type { JobExitCode, JobOptions, JobOutcome, JobRows, OpenGenerator } from './types.ts';

/** The file to read. */
interface InputFile {
  readonly path: string;
  /** A copy of stdin that this run made. */
  readonly isNewCopy: boolean;
}

/** What every part of a job needs to know. */
interface Job {
  readonly options: JobOptions;
  readonly format: TableFormat;
  readonly paths: JobPaths;
  /** What decides the results, see `jobSettings`. */
  readonly settings: Readonly<Record<string, unknown>>;
  readonly tracker: JobTracker;
  /** Either signal: begin nothing new. */
  readonly signal: AbortSignal;
  readonly abortSignal: AbortSignal;
  readonly openGenerator: OpenGenerator;
}

/** A job whose rows are counted. */
interface Scanned {
  readonly open: OpenTable;
  readonly scan: ScanResult;
  readonly content: JournalContent | undefined;
  readonly before: JobRows;
  /** A new header says that the file at the output's path may go. */
  readonly mayReplaceOutput: boolean;
  readonly notice: string | undefined;
}

type Opened = NonNullable<JournalHeader['opened']>;

/**
 * Runs a job from wherever an earlier run left it: every row of the input becomes one row of the output, in order. Saved rows stay saved,
 * whatever ends the run.
 * @throws {UsageError} for what is wrong with paths, template, flags, or an earlier job of the same output (exit 2); no row was generated then
 * @throws what the generator throws (exit 1)
 */
export async function runJob(options: JobOptions, openGenerator: OpenGenerator): Promise<JobOutcome> {
  const never = new AbortController().signal;
  const { input, output, signal = never, abortSignal = never } = options;
  checkTemplates(options);
  const tracker = trackJob(options.onProgress);
  const format = resolveFormat(options.format ?? 'auto', input, output);
  const paths = await resolvePaths(input, output);
  const settings = jobSettings(options, format);
  const either = AbortSignal.any([signal, abortSignal]);
  const job: Job = { options, format, paths, settings, tracker, signal: either, abortSignal, openGenerator };
  try {
    await using _lock = await acquireLock(paths.lock, output);
    return await runLocked(job);
  } catch (error) {
    if (error instanceof DiskFullError) return interrupted(job, `${error.message}; make room`);
    if (either.aborted && isAbort(error, either)) return interrupted(job, 'stopped');
    throw error;
  }
}

async function runLocked(job: Job): Promise<JobOutcome> {
  const { options, paths, tracker } = job;
  tracker.enter('reading');
  const { earlier, outputExists } = await findEarlier(paths, options);
  const { path, isNewCopy } = await inputFile(job, earlier);
  try {
    if (earlier.kind === 'finished') return await runFinished(job, earlier, path);
    return await runRows(job, path, earlier.kind === 'begun' ? earlier.content : undefined, outputExists);
  } catch (error) {
    // A later run must not take what a refused one was given.
    if (isNewCopy && error instanceof UsageError) await rm(paths.spool, { force: true });
    throw error;
  }
}

async function runFinished(job: Job, earlier: Earlier & { kind: 'finished' }, input: string): Promise<JobOutcome> {
  const next = await decideFinished(job, earlier, input);
  if (next === 'again') return runRows(job, input, undefined, true);
  if (next === 'reuse') {
    await reopen(job.paths);
    return runRows(job, input, earlier.content, true);
  }
  await removeLeftovers(job);
  return finishedOutcome(job, earlier.content.header, earlier.finished);
}

/** What to do with an output that is complete: nothing, generate some rows again, or begin anew. */
async function decideFinished(job: Job, earlier: Earlier & { kind: 'finished' }, input: string): Promise<'nothing' | 'reuse' | 'again'> {
  const { options, settings } = job;
  const { content, finished } = earlier;
  const changed = differences(content.header.settings, settings);
  if (changed.length > 0) {
    if (options.force === true) return 'again';
    const way = 'choose another output, or generate all rows again with --restart';
    throw new UsageError(`${options.output} is finished, with other settings: ${changed.join('; ')}; ${way}`);
  }
  const digest = await digestFile(input);
  const sameInput = isEqual(finished.input, digest);
  // Whoever asks for the same once more need not have it all at hand once more.
  const nothingGiven = job.paths.input === undefined && digest.bytes === 0;
  const rowsKept = content.rowLines > 0 || finished.generated === 0;
  const retries = options.retryFailed === true && finished.rows.failed > 0;
  if (retries && nothingGiven && !sameInput)
    throw new UsageError(`stdin is empty; the rows of ${options.output} that failed are generated again from the whole input`);
  if ((sameInput || nothingGiven) && !retries) {
    if (content.header.opened !== undefined && differences(content.header.generator, options.generator).length > 0) {
      await using generator = await job.openGenerator({ count: 0, promptTokens: 0 });
      checkModel(job, content.header, generator);
    }
    return 'nothing';
  }
  if (rowsKept) return 'reuse';
  if (options.force === true) return 'again';
  throw new UsageError(
    `the input changed since ${options.output} was finished; choose another output, or generate all rows again with --restart`,
  );
}

/** The input itself, or a copy of stdin. That of an earlier run counts only while its job is not finished. */
async function inputFile({ paths, options, signal }: Job, earlier: Earlier): Promise<InputFile> {
  if (paths.input !== undefined) return { path: paths.input, isNewCopy: false };
  const hasCopy = options.restart !== true && earlier.kind !== 'finished' && (await fileExists(paths.spool));
  if (hasCopy && earlier.kind === 'begun') return { path: paths.spool, isNewCopy: false };
  if (options.stdin === undefined) throw new UsageError('the input is "-", but there is no stdin to read');
  // A run that was stopped before its journal began has left a copy that may be the only one.
  return { path: paths.spool, isNewCopy: await spool(options.stdin, paths.spool, signal, hasCopy) };
}

async function runRows(job: Job, input: string, content: JournalContent | undefined, outputExists: boolean): Promise<JobOutcome> {
  const { options, tracker, paths } = job;
  if (content !== undefined) checkSettings(job, content.header);
  const { column = DEFAULT_COLUMN, params = {}, returnTokenIds = false } = options;
  const name = paths.input === undefined ? 'stdin' : options.input;
  const open = tableOpener(input, job.format, { name, column, params, returnTokenIds, templates: options });
  const index = content?.index ?? new JournalIndex();
  const scan = await scanTable(open, pendingIn(index, options), index, (total) => {
    job.signal.throwIfAborted();
    tracker.count({ total, done: 0, failed: 0, reused: 0 });
  });
  job.signal.throwIfAborted();
  if (content === undefined) await discardEarlier(paths);
  const { total, refused, reused } = scan;
  const before = { total, done: reused.done, failed: refused + reused.failed, reused: reused.done + reused.failed };
  tracker.count(before);
  const state: Scanned = { open, scan, content, before, mayReplaceOutput: outputExists, notice: promptNotice(options, scan.allAlike) };
  const modelMatters = content?.header.opened !== undefined && differences(content.header.generator, options.generator).length > 0;
  return scan.pending > 0 || modelMatters ? await runWithModel(job, state) : await runWithoutModel(job, state);
}

async function runWithModel(job: Job, state: Scanned): Promise<JobOutcome> {
  const { tracker, openGenerator, signal, abortSignal } = job;
  tracker.enter('loading');
  const generator = await openGenerator(state.scan.expected);
  let header: JournalHeader;
  let journal: Journal;
  try {
    if (state.content !== undefined) checkModel(job, state.content.header, generator);
    checkConversations(state.scan, generator);
    const { fingerprint, model, kernels } = generator.info;
    ({ header, journal } = await openJournal(job, state, { fingerprint, model, kernels }));
  } catch (error) {
    await generator[Symbol.asyncDispose]();
    throw error;
  }
  await using saved = journal;
  try {
    job.signal.throwIfAborted();
    tracker.count(state.before, () => saved.saved);
    tracker.enter('generating');
    const isPending = pendingIn(saved.index, job.options);
    const complete = await generateRows(state.open, generator, saved, { isPending, signal, abortSignal, onSweep: tracker.sweep });
    if (!complete) return interrupted(job, 'stopped', header);
  } finally {
    await generator[Symbol.asyncDispose]();
  }
  return await finishJob(job, state, saved, header);
}

async function runWithoutModel(job: Job, state: Scanned): Promise<JobOutcome> {
  const { header, journal } = await openJournal(job, state);
  await using saved = journal;
  return await finishJob(job, state, saved, header);
}

async function finishJob(job: Job, { open, notice }: Scanned, journal: Journal, header: JournalHeader): Promise<JobOutcome> {
  job.tracker.enter('writing');
  const finished = await assemble(open, job.paths, journal, header, job.abortSignal);
  await closeJob(job.paths, header, finished);
  return {
    summary: job.tracker.summary(header.opened?.kernels ?? ''),
    exitCode: exitCodeOf(finished),
    ...(notice !== undefined && { notice }),
  };
}

/** Goes on with the journal there is, unless it was begun without a model and has no rows. */
async function openJournal(
  { paths, settings, options }: Job,
  { content, mayReplaceOutput }: Scanned,
  opened?: Opened,
): Promise<{ readonly header: JournalHeader; readonly journal: Journal }> {
  if (content !== undefined && (content.rowLines > 0 || opened === undefined || content.header.opened !== undefined))
    return { header: content.header, journal: await Journal.resume(paths.journal, content) };
  const header: JournalHeader = {
    journal: JOURNAL_KIND,
    version: JOURNAL_VERSION,
    created: Math.floor(Date.now() / 1000),
    settings,
    generator: options.generator,
    ...(opened && { opened }),
    mayReplaceOutput,
  };
  return { header, journal: await Journal.create(paths.journal, header) };
}

function checkSettings({ settings, paths }: Job, header: JournalHeader): void {
  const changed = differences(header.settings, settings);
  if (changed.length === 0) return;
  throw new UsageError(
    `${paths.journal} was begun with other settings: ${changed.join('; ')}; go on with the earlier ones, or begin anew with --restart`,
  );
}

function checkModel({ options, paths }: Job, header: JournalHeader, { info }: TextGenerator): void {
  if (header.opened === undefined || header.opened.fingerprint === info.fingerprint) return;
  const changed = [
    ...differences(header.generator, options.generator),
    ...differences({ fingerprint: header.opened.fingerprint }, { fingerprint: info.fingerprint }),
  ];
  throw new UsageError(
    `the rows of ${paths.output} so far are from another model: ${changed.join('; ')}; go on with that one, or begin anew with --restart`,
  );
}

/** A mistake of the whole job, told before any row is generated. */
function checkConversations({ conversation: line }: ScanResult, { hasChatTemplate, info }: TextGenerator): void {
  if (line === undefined || hasChatTemplate) return;
  throw new UsageError(
    `line ${line} is a conversation, but ${info.model} has no chat template; give it prompts of text (--prompt, /v1/completions), or choose another model with -m`,
  );
}

function pendingIn(index: JournalIndex, { retryFailed = false }: JobOptions): (row: number, hash: bigint) => boolean {
  return (row, hash) => {
    const found = index.find(row, hash);
    return found === undefined || (retryFailed && found.failed);
  };
}

/** A run that died right after finishing left them. */
async function removeLeftovers({ paths }: Job): Promise<void> {
  for (const path of [paths.journal, paths.spool, paths.part]) await rm(path, { force: true });
}

async function finishedOutcome({ tracker, options }: Job, header: JournalHeader, finished: Finished): Promise<JobOutcome> {
  tracker.count({ ...finished.rows, reused: finished.generated });
  const { mtime } = await stat(options.output);
  const notice = `${options.output} was finished on ${mtime.toISOString()} and there is no other input: nothing to do`;
  return { summary: tracker.summary(header.opened?.kernels ?? ''), exitCode: exitCodeOf(finished), notice };
}

function interrupted({ tracker, options }: Job, why: string, header?: JournalHeader): JobOutcome {
  const { total, done, failed } = tracker.rows();
  const notice = `${why}: ${done + failed} of ${total} rows of ${options.output} are saved; the same command goes on`;
  return { summary: tracker.summary(header?.opened?.kernels ?? ''), exitCode: 4, notice };
}

const exitCodeOf = ({ rows }: Finished): JobExitCode => (rows.failed > 0 ? 3 : 0);

const isAbort = (error: unknown, signal: AbortSignal): boolean =>
  error === signal.reason || (error instanceof Error && error.name === 'AbortError');
