import { access, constants, open, stat } from 'node:fs/promises';
import { dirname } from 'node:path';
import { UsageError } from '../util/errors.ts';
import { errorCode, reason } from '../util/system-errors.ts';

/** Who wrote a file, and in which version of the format. */
export const TRACE_WRITER = 'flexllmgen trace 1';
/** What every trace begins with, byte for byte. */
export const TRACE_BEGIN: string = `{"displayTimeUnit":"ms","otherData":{"writer":"${TRACE_WRITER}"`;

/**
 * Asked before a long job rather than at its end: the folder must be there, and only a former trace or an empty file is replaced, for the flag
 * could name the table itself.
 * @throws {UsageError}
 */
export async function checkTracePlace(path: string): Promise<void> {
  const folder = dirname(path);
  await access(folder, constants.W_OK).catch((cause: unknown) => {
    throw new UsageError(`trace ${path}: the folder ${folder} cannot be written to: ${reason(cause)}`, { path }, { cause });
  });
  const facts = await stat(path).catch((cause: unknown) => {
    if (errorCode(cause) !== 'ENOENT') throw cause;
    return undefined;
  });
  if (facts === undefined || (facts.isFile() && facts.size === 0)) return;
  if (facts.isFile() && (await beginning(path)) === TRACE_BEGIN) return;
  throw new UsageError(`trace ${path}: something else has this name and is not replaced; choose another`, { path });
}

async function beginning(path: string): Promise<string> {
  const handle = await open(path, 'r');
  try {
    const { buffer, bytesRead } = await handle.read(Buffer.alloc(TRACE_BEGIN.length), 0, TRACE_BEGIN.length, 0);
    return buffer.toString('latin1', 0, bytesRead);
  } finally {
    await handle.close();
  }
}
