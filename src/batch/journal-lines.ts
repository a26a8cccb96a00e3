import type { Digest } from '../util/durable-file.ts';
import { hex64 } from '../util/hash.ts';
import { isRecord } from '../util/json-value.ts';
import type { RowOutcome } from './rows.ts';
import type { JobRows } from './types.ts';

/** First line of a journal: which job it is. */
export interface JournalHeader {
  readonly journal: typeof JOURNAL_KIND;
  readonly version: typeof JOURNAL_VERSION;
  /** When the job began, in seconds since 1970. */
  readonly created: number;
  /** What decides the results, readable: prompt, column, format, parameters. */
  readonly settings: Readonly<Record<string, unknown>>;
  /** What the user asked to open, readable. */
  readonly generator: Readonly<Record<string, string>>;
  /** Of the opened model; missing in a job that has not needed it. */
  readonly opened?: { readonly fingerprint: string; readonly model: string; readonly kernels: string };
  /** The user agreed that a file that was there before is replaced. */
  readonly mayReplaceOutput: boolean;
}

/** Written when the output is complete, before it gets its name. */
export interface Finished {
  readonly rows: Omit<JobRows, 'reused'>;
  /** Results that came from the model. */
  readonly generated: number;
  readonly input: Digest;
  readonly output: Digest;
}

export interface RowLine {
  readonly row: number;
  readonly hash: bigint;
  readonly outcome: RowOutcome;
}

export const JOURNAL_KIND = 'flexllmgen-job';
export const JOURNAL_VERSION = 1;

export function headerLine(header: JournalHeader): string {
  return `${JSON.stringify(header)}\n`;
}

export function rowLine(row: number, hash: bigint, outcome: RowOutcome): string {
  return `${JSON.stringify({ row, hash: hex64(hash), ...outcome })}\n`;
}

export function finishedLine(finished: Finished): string {
  return `${JSON.stringify({ finished })}\n`;
}

/** @returns undefined when the text is no header of a journal, of any version */
export function parseHeader(text: string): (Omit<JournalHeader, 'version'> & { readonly version: number }) | undefined {
  const value = parse(text);
  return value?.journal === JOURNAL_KIND ? (value as unknown as JournalHeader) : undefined;
}

/** @returns undefined for a line that was not written completely */
export function parseLine(text: string): RowLine | { readonly finished: Finished } | undefined {
  const value = parse(text);
  if (value === undefined) return undefined;
  if (isRecord(value.finished)) return { finished: value.finished as unknown as Finished };
  const { row, hash } = value;
  if (typeof row !== 'number' || typeof hash !== 'string' || !/^[0-9a-f]{16}$/.test(hash)) return undefined;
  if (!isRecord(value.completion) && !isRecord(value.problem)) return undefined;
  return { row, hash: BigInt(`0x${hash}`), outcome: value as unknown as RowOutcome };
}

function parse(text: string): Record<string, unknown> | undefined {
  try {
    const value: unknown = JSON.parse(text);
    return isRecord(value) ? value : undefined;
  } catch {
    return undefined;
  }
}
