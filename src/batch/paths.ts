import { access, constants, lstat, realpath, stat } from 'node:fs/promises';
import { basename, dirname, extname, join, resolve } from 'node:path';
import { UsageError } from '../util/errors.ts';
import { reason } from '../util/system-errors.ts';
import type { JobFormat } from './types.ts';

/** Every file of a job. All but the input lie in one folder, so that a rename moves no bytes. */
export interface JobPaths {
  /** Undefined for stdin, which is read from `spool`. */
  readonly input: string | undefined;
  readonly output: string;
  readonly folder: string;
  readonly journal: string;
  readonly done: string;
  readonly lock: string;
  readonly spool: string;
  /** The output while it is written. */
  readonly part: string;
}

export type TableFormat = Exclude<JobFormat, 'auto'>;

const FORMAT_OF: Readonly<Record<string, TableFormat>> = { '.csv': 'csv', '.jsonl': 'jsonl', '.ndjson': 'jsonl' };

/** @throws {UsageError} for paths that cannot be read, written, or are not different files */
export async function resolvePaths(input: string, output: string): Promise<JobPaths> {
  const source = input === '-' ? undefined : await checkedInput(input);
  const out = await checkedOutput(output);
  const beside = (suffix: string): string => `${out}.${suffix}`;
  const paths: JobPaths = {
    input: source,
    output: out,
    folder: dirname(out),
    journal: beside('journal'),
    done: beside('done'),
    lock: beside('lock'),
    spool: beside('input'),
    part: beside('part'),
  };
  if (source === undefined) return paths;
  for (const own of [out, paths.journal, paths.done, paths.lock, paths.spool, paths.part])
    if (await isSameFile(source, own))
      throw new UsageError(`the input ${input} is ${own === out ? 'the output too' : `a file that the job of ${output} writes`}`);
  return paths;
}

/** @throws {UsageError} when neither flag nor name tells, or the output is named like the other format */
export function resolveFormat(format: JobFormat, input: string, output: string): TableFormat {
  if (format === 'auto' && input === '-')
    throw new UsageError('stdin has no name to tell its format by; give --format csv or --format jsonl');
  const known = format === 'auto' ? FORMAT_OF[extname(input).toLowerCase()] : format;
  if (known === undefined) throw new UsageError(`the format of ${input} is not known by its name; give --format csv or --format jsonl`);
  const named = FORMAT_OF[extname(output).toLowerCase()];
  if (named !== undefined && named !== known)
    throw new UsageError(`the output has the format of the input, ${known}, but is named ${output}`);
  return known;
}

async function checkedInput(input: string): Promise<string> {
  const path = resolve(input);
  const found = await stat(path).catch((error: unknown) => {
    throw new UsageError(`cannot read the input ${input}: ${reason(error)}`, {}, { cause: error });
  });
  if (found.isDirectory()) throw new UsageError(`the input ${input} is a folder, a file is needed`);
  if (!found.isFile())
    throw new UsageError(`the input ${input} is no regular file and cannot be read twice; pipe it in with -i - and --format`);
  await access(path, constants.R_OK).catch((error: unknown) => {
    throw new UsageError(`cannot read the input ${input}: ${reason(error)}`, {}, { cause: error });
  });
  return path;
}

/** A symbolic link stays one: what it points to is replaced. */
async function checkedOutput(output: string): Promise<string> {
  const path = resolve(output);
  const folder = await realpath(dirname(path)).catch((error: unknown) => {
    throw new UsageError(`cannot write ${output}: its folder: ${reason(error)}`, {}, { cause: error });
  });
  const named = join(folder, basename(path));
  const found = await lstat(named).catch(() => undefined);
  if (found?.isSymbolicLink() !== true) {
    if (found !== undefined && !found.isFile())
      throw new UsageError(`the output ${output} is ${found.isDirectory() ? 'a folder' : 'no regular file'}`);
    return named;
  }
  const target = await realpath(named).catch(() => undefined);
  if (target === undefined) throw new UsageError(`the output ${output} is a link to a file that does not exist`);
  return checkedOutput(target);
}

async function isSameFile(a: string, b: string): Promise<boolean> {
  const [first, second] = await Promise.all([a, b].map((path) => stat(path, { bigint: true }).catch(() => undefined)));
  if (first === undefined || second === undefined) return a === b;
  return first.dev === second.dev && first.ino === second.ino;
}
