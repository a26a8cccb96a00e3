/** Jobs of the built command line, each in a folder of its own. */
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import type { JobSummary } from '../../src/batch/types.ts';
import { type CliOptions, type CliResult, jsonLines, type RunningCli, startCli } from './cli.ts';

export interface JobResult extends CliResult {
  /** Missing when the job did not begin. */
  readonly summary: JobSummary | undefined;
  /** What was said to people: messages and the error, a line each. */
  readonly message: string;
}

export interface JobFolder extends Disposable {
  readonly path: string;
  readonly at: (name: string) => string;
  readonly write: (name: string, content: string | Uint8Array) => void;
  readonly read: (name: string) => string;
  readonly has: (name: string) => boolean;
  /** Sorted. */
  readonly names: () => string[];
  /** `flexllmgen run` from in.csv to out.csv on one thread, in this folder; flags may say otherwise. */
  readonly start: (flags: readonly string[], options?: CliOptions) => RunningCli;
  readonly run: (flags: readonly string[], options?: CliOptions) => Promise<JobResult>;
}

/** @param files written at once, by name */
export function jobFolder(files: Readonly<Record<string, string | Uint8Array>> = {}): JobFolder {
  const path = mkdtempSync(join(os.tmpdir(), 'flexllmgen job '));
  const at = (name: string): string => join(path, name);
  for (const [name, content] of Object.entries(files)) writeFileSync(at(name), content);
  const start = (flags: readonly string[], options: CliOptions = {}): RunningCli =>
    startCli(['run', '-i', 'in.csv', '-o', 'out.csv', '--json', '--threads', '1', ...flags], { cwd: path, ...options });
  return {
    path,
    at,
    write: (name, content) => writeFileSync(at(name), content),
    read: (name) => readFileSync(at(name), 'utf8'),
    has: (name) => existsSync(at(name)),
    names: () => readdirSync(path).toSorted(),
    start,
    run: async (flags, options) => jobResult(await start(flags, options).result),
    [Symbol.dispose]: () => rmSync(path, { recursive: true, force: true, maxRetries: 3 }),
  };
}

/** What a command with `--json` said. */
export function jobResult(result: CliResult): JobResult {
  const lines = result.stderr.split('\n').map((line) => {
    if (!line.startsWith('{')) return line;
    const { message } = JSON.parse(line) as { message?: string };
    return message ?? '';
  });
  const [summary] = jsonLines(result.stdout) as unknown as JobSummary[];
  return { ...result, summary, message: lines.filter((line) => line !== '').join('\n') };
}
