import { open, rename, rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import type { Readable } from 'node:stream';
import { crashPoint } from '../util/crash-point.ts';
import { syncFolder } from '../util/durable-file.ts';
import { guarded } from '../util/system-errors.ts';

/**
 * Copies a stream to a file that is there completely or not at all. `signal` ends it without one.
 * @param keepIfEmpty an empty stream leaves a file of an earlier run as it is
 * @returns whether the file is this stream's
 */
export async function spool(stream: Readable, path: string, signal: AbortSignal, keepIfEmpty: boolean): Promise<boolean> {
  const part = `${path}.part`;
  const handle = await guarded(part, open(part, 'w'));
  let bytes = 0;
  try {
    for await (const chunk of abortable(stream, signal)) {
      await guarded(part, handle.writeFile(chunk));
      bytes += chunk.length;
    }
    await guarded(part, handle.sync());
  } catch (error) {
    await rm(part, { force: true });
    throw error;
  } finally {
    await handle.close();
  }
  if (keepIfEmpty && bytes === 0) {
    await rm(part, { force: true });
    return false;
  }
  crashPoint('spooled');
  await rename(part, path);
  await syncFolder(dirname(path));
  return true;
}

/** A terminal may never send another byte, so that a signal cannot wait for one. */
async function* abortable(stream: Readable, signal: AbortSignal): AsyncGenerator<Buffer, void, void> {
  signal.throwIfAborted();
  const stop = (): void => void stream.destroy(signal.reason instanceof Error ? signal.reason : new Error('aborted'));
  signal.addEventListener('abort', stop, { once: true });
  try {
    for await (const chunk of stream as AsyncIterable<Buffer | string>) yield Buffer.from(chunk);
  } finally {
    signal.removeEventListener('abort', stop);
  }
}
