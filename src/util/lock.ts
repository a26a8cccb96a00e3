import { link, open, readFile, rename, stat, unlink } from 'node:fs/promises';
import { hostname } from 'node:os';
import { UsageError } from './errors.ts';
import { isRecord } from './json-value.ts';
import { errorCode, guarded, reason } from './system-errors.ts';

interface Holder {
  readonly pid: number;
  readonly host: string;
  /** Start of the process where the system tells it, because process ids are used again. */
  readonly started: string;
}

/** Another process works on the same output. */
export class LockedError extends UsageError {}

/** A lock without content is being written, or its process died on the spot. */
const EMPTY_LOCK_MS = 5_000;
/** Others may take over the same stale lock at the same time. */
const ATTEMPTS = 5;

/**
 * Makes this process the only one that works on an output; disposing of the lock ends that. A lock whose process has died is
 * taken over.
 * @throws {LockedError} when another process holds it
 * @throws {UsageError} when the folder cannot be written
 */
export async function acquireLock(path: string, output: string): Promise<AsyncDisposable> {
  for (let attempt = 0; attempt < ATTEMPTS; attempt++) {
    if (await create(path, output)) return { [Symbol.asyncDispose]: () => remove(path) };
    const text = await readFile(path, 'utf8').catch(() => undefined);
    if (text === undefined) continue;
    const holder = parseHolder(text);
    if (holder === undefined ? await isFresh(path) : await isAlive(holder)) throw inUse(path, output, holder);
    await removeStale(path, text);
  }
  throw inUse(path, output, undefined);
}

async function create(path: string, output: string): Promise<boolean> {
  const handle = await guarded(path, open(path, 'wx')).catch((error: unknown) => {
    const code = errorCode(error);
    if (code === 'EEXIST') return undefined;
    if (code === 'disk-full') throw error;
    throw new UsageError(`cannot write ${output}: its folder: ${reason(error)}`, {}, { cause: error });
  });
  if (handle === undefined) return false;
  try {
    const holder: Holder = { pid: process.pid, host: hostname(), started: await processStart(process.pid) };
    await guarded(path, handle.writeFile(`${JSON.stringify(holder)}\n`));
  } catch (error) {
    await remove(path);
    throw error;
  } finally {
    await handle.close();
  }
  return true;
}

function inUse(path: string, output: string, holder: Holder | undefined): LockedError {
  const who = holder === undefined ? 'another process' : `process ${holder.pid}${holder.host === hostname() ? '' : ` on ${holder.host}`}`;
  return new LockedError(`${output} is in use by ${who}; wait for it, or remove ${path} if that process is gone`);
}

/** Moves the lock aside first: if it is no longer the one that was read, someone else was faster, and it is put back. */
async function removeStale(path: string, expected: string): Promise<void> {
  const aside = `${path}.${process.pid}`;
  const moved = await rename(path, aside).then(
    () => true,
    () => false,
  );
  if (!moved) return;
  if ((await readFile(aside, 'utf8').catch(() => expected)) !== expected) await link(aside, path).catch(() => {});
  await remove(aside);
}

async function isFresh(path: string): Promise<boolean> {
  const found = await stat(path).catch(() => undefined);
  return found !== undefined && Date.now() - found.mtimeMs < EMPTY_LOCK_MS;
}

async function isAlive({ pid, host, started }: Holder): Promise<boolean> {
  // A process on another machine cannot be asked.
  if (host !== hostname()) return true;
  try {
    process.kill(pid, 0);
  } catch (error) {
    if (errorCode(error) === 'ESRCH') return false;
  }
  const now = await processStart(pid);
  return started === '' || now === '' || now === started;
}

/** Clock ticks from boot to the start of a process, on Linux; elsewhere empty. A zombie counts as gone. */
async function processStart(pid: number): Promise<string> {
  const text = await readFile(`/proc/${pid}/stat`, 'utf8').catch(() => '');
  // The name, in parentheses, may hold spaces; state is the first field after it, the start the 20th.
  const fields = text.slice(text.lastIndexOf(')') + 2).split(' ');
  return fields[0] === 'Z' ? 'gone' : (fields[19] ?? '');
}

function parseHolder(text: string): Holder | undefined {
  try {
    const value: unknown = JSON.parse(text);
    if (!isRecord(value)) return undefined;
    const { pid, host, started } = value;
    return typeof pid === 'number' && typeof host === 'string' && typeof started === 'string' ? { pid, host, started } : undefined;
  } catch {
    return undefined;
  }
}

async function remove(path: string): Promise<void> {
  await unlink(path).catch(() => {});
}
