/** Starts the built command line as a user does: another process, an empty home, no environment but what it needs. */
import { spawn, type ChildProcess } from 'node:child_process';
import { mkdtempSync, readdirSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface CliResult {
  /** null when a signal ended it. */
  readonly status: number | null;
  readonly signal: NodeJS.Signals | null;
  readonly stdout: string;
  readonly stderr: string;
}

export interface CliOptions {
  readonly cwd?: string;
  /** Added to PATH, HOME and the like. */
  readonly env?: Readonly<Record<string, string>>;
  /** Nothing, and then the end, if missing; null leaves it open for the test to write to. */
  readonly stdin?: string | null;
  /** Killed after this; default a minute. */
  readonly timeoutMs?: number;
  /** Flags of Node itself. */
  readonly nodeFlags?: readonly string[];
  /** A command that starts Node, such as `unshare -n`. */
  readonly prefix?: readonly string[];
  /** Another build's entry point. */
  readonly main?: string;
}

export interface RunningCli {
  readonly child: ChildProcess;
  readonly result: Promise<CliResult>;
  /** Resolves when standard error has matched, rejects when the process ends before. */
  readonly stderrMatches: (pattern: RegExp) => Promise<void>;
}

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
const MAIN = join(REPOSITORY, 'dist/cli/main.js');

/** A test of yesterday's build says nothing. Asked once, when a test file is loaded: later, somebody may be editing. */
const stale = staleSource();
if (stale !== undefined) throw new Error(`dist/ is older than src/${stale}; run npm run build`);

/** Runs `flexllmgen` to its end. */
export async function cli(args: readonly string[], options: CliOptions = {}): Promise<CliResult> {
  return startCli(args, options).result;
}

/** Starts `flexllmgen`, for those who want to disturb it. */
export function startCli(args: readonly string[], options: CliOptions = {}): RunningCli {
  const home = mkdtempSync(join(os.tmpdir(), 'flexllmgen-home-'));
  const words = [...(options.prefix ?? []), process.execPath, ...(options.nodeFlags ?? []), options.main ?? MAIN, ...args];
  const child = spawn(words[0]!, words.slice(1), {
    cwd: options.cwd ?? home,
    env: { PATH: process.env['PATH'], HOME: home, USERPROFILE: home, TMPDIR: home, TMP: home, ...options.env },
    timeout: options.timeoutMs ?? 60_000,
    killSignal: 'SIGKILL',
  });
  let stdout = '';
  let stderr = '';
  const watchers = new Set<() => void>();
  child.stdout.setEncoding('utf8').on('data', (text: string) => (stdout += text));
  child.stderr.setEncoding('utf8').on('data', (text: string) => {
    stderr += text;
    for (const watcher of watchers) watcher();
  });
  // A command that does not read has closed its end.
  child.stdin.on('error', () => {});
  if (options.stdin !== null) child.stdin.end(options.stdin ?? '');
  const result = new Promise<CliResult>((resolve, reject) => {
    child.once('error', reject);
    child.once('close', (status, signal) => {
      rmSync(home, { recursive: true, force: true });
      resolve({ status, signal, stdout, stderr });
    });
  });
  const stderrMatches = (pattern: RegExp): Promise<void> =>
    new Promise((resolve, reject) => {
      const look = (): void => {
        if (!pattern.test(stderr)) return;
        watchers.delete(look);
        resolve();
      };
      watchers.add(look);
      look();
      result.then(({ status }) => reject(new Error(`ended with ${status} before ${pattern}: ${stderr}`)), reject);
    });
  return { child, result, stderrMatches };
}

/** Lines of JSON, each an object. */
export function jsonLines(text: string): Record<string, unknown>[] {
  return text
    .split('\n')
    .filter((line) => line !== '')
    .map((line) => JSON.parse(line) as Record<string, unknown>);
}

/** A source that was changed after its output was written. */
function staleSource(): string | undefined {
  const source = join(REPOSITORY, 'src');
  const names = readdirSync(source, { recursive: true, encoding: 'utf8' }).filter((name) => name.endsWith('.ts'));
  return names.find((name) => modified(join(source, name)) > modified(join(REPOSITORY, 'dist', name.replace(/\.ts$/, '.js'))));
}

/** Milliseconds; -Infinity for a file that does not exist. */
function modified(file: string): number {
  return statSync(file, { throwIfNoEntry: false })?.mtimeMs ?? -Infinity;
}
