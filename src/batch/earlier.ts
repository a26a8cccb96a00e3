import { rename, rm } from 'node:fs/promises';
import { type Digest, digestFile, fileExists } from '../util/durable-file.ts';
import { UsageError } from '../util/errors.ts';
import { type JournalContent, readJournal } from './journal-file.ts';
import type { Finished } from './journal-lines.ts';
import type { JobPaths } from './paths.ts';
import type { JobOptions } from './types.ts';

/** What earlier runs left of this output's job. */
export type Earlier =
  /** Nothing, or nothing of use. */
  | { readonly kind: 'none' }
  /** Rows that can be reused. */
  | { readonly kind: 'begun'; readonly content: JournalContent }
  /** The output is complete and untouched. */
  | { readonly kind: 'finished'; readonly content: JournalContent; readonly finished: Finished };

export interface EarlierState {
  readonly earlier: Earlier;
  /** A file lies at the output's path, and may be replaced. */
  readonly outputExists: boolean;
}

/**
 * Finds out whose output this is. Changes nothing, so that a job can still be refused.
 * @throws {UsageError} when a file is there that may not be replaced
 */
export async function findEarlier(paths: JobPaths, options: JobOptions): Promise<EarlierState> {
  const output = (await fileExists(paths.output)) ? await digestFile(paths.output) : undefined;
  const outputExists = output !== undefined;
  const done = await readUnlessRestarted(paths.done, options);
  const journal = await readUnlessRestarted(paths.journal, options);
  if (done?.finished !== undefined && isEqual(done.finished.output, output)) {
    if (options.restart === true) return { earlier: { kind: 'none' }, outputExists };
    return { earlier: { kind: 'finished', content: done, finished: done.finished }, outputExists };
  }
  const ours = journal !== undefined && (journal.header.mayReplaceOutput || isEqual(journal.finished?.output, output));
  if (outputExists && !ours && options.force !== true) throw foreignOutput(options.output, done !== undefined);
  if (journal === undefined || options.restart === true) return { earlier: { kind: 'none' }, outputExists };
  return { earlier: { kind: 'begun', content: journal }, outputExists };
}

/** Makes the journal of a finished job, whose rows were kept, that of one that goes on. */
export async function reopen(paths: JobPaths): Promise<void> {
  await rename(paths.done, paths.journal);
}

/** Removes what a job that begins anew does not use. */
export async function discardEarlier(paths: JobPaths): Promise<void> {
  for (const path of [paths.journal, paths.done]) await rm(path, { force: true });
}

/** A journal of another version, or damaged, is no obstacle to beginning anew. */
async function readUnlessRestarted(path: string, { restart }: JobOptions): Promise<JournalContent | undefined> {
  if (restart !== true) return readJournal(path);
  return readJournal(path).catch((error: unknown) => {
    if (error instanceof UsageError) return undefined;
    throw error;
  });
}

function foreignOutput(output: string, wasOurs: boolean): UsageError {
  const what = wasOurs ? 'was changed since its job finished' : 'exists and is not the output of this job';
  return new UsageError(`${output} ${what}; move it away, choose another output, or replace it with --force`);
}

export function isEqual(a: Digest | undefined, b: Digest | undefined): boolean {
  return a !== undefined && b !== undefined && a.bytes === b.bytes && a.sha256 === b.sha256;
}
