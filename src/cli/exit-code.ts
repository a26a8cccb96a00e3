import { FlexError, UsageError } from '../util/errors.ts';

/** What a command's exit status says; the same for every command. */
export const EXIT = {
  ok: 0,
  failed: 1,
  /** A wrong flag, path or parameter; nothing was started. */
  usage: 2,
  /** The job is complete, but some rows are error rows. */
  someRowsFailed: 3,
  /** Stopped half-way, by a signal or a full disk; a job goes on with the same command. */
  interrupted: 4,
} as const;

export function exitCodeOf(error: unknown): number {
  if (error instanceof UsageError) return EXIT.usage;
  return isAbort(error) ? EXIT.interrupted : EXIT.failed;
}

/** What the user reads: the message alone where the error was foreseen, the stack where it was not and somebody has to find out. */
export function describeError(error: unknown): string {
  if (!(error instanceof Error)) return String(error);
  if (isAbort(error)) return 'interrupted';
  const foreseen = error instanceof FlexError || 'syscall' in error;
  return foreseen ? error.message : (error.stack ?? error.message);
}

function isAbort(error: unknown): boolean {
  return error instanceof Error && error.name === 'AbortError';
}
