import { open } from 'node:fs/promises';
import { FormatError } from '../util/errors.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** Text of a UTF-8 file without its byte order mark; undefined when there is no such file. */
export async function readTextIfPresent(path: string, maxBytes: number): Promise<string | undefined> {
  const bytes = await readBytesIfPresent(path, maxBytes);
  if (bytes === undefined) return undefined;
  try {
    return new TextDecoder('utf-8', { fatal: true }).decode(bytes);
  } catch (cause) {
    throw new FormatError(path, 'is not UTF-8', {}, { cause });
  }
}

/** @throws {FormatError} when the text is not JSON or not an object */
export function parseJsonObject(file: string, text: string): JsonObject {
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (cause) {
    throw new FormatError(file, `is not JSON: ${(cause as Error).message}`, {}, { cause });
  }
  if (!isJsonObject(value)) throw new FormatError(file, 'is not a JSON object');
  return value;
}

export const isJsonObject = (value: unknown): value is JsonObject => typeof value === 'object' && value !== null && !Array.isArray(value);

/** Undefined when there is no such file. @throws {FormatError} when it is larger than `maxBytes` */
export async function readBytesIfPresent(path: string, maxBytes: number): Promise<Uint8Array | undefined> {
  const handle = await open(path, 'r').catch((cause: NodeJS.ErrnoException) => {
    if (cause.code === 'ENOENT' || cause.code === 'ENOTDIR') return undefined;
    throw cause;
  });
  if (handle === undefined) return undefined;
  try {
    const stat = await handle.stat();
    if (!stat.isFile()) throw new FormatError(path, 'is not a file');
    if (stat.size > maxBytes) throw new FormatError(path, `has ${stat.size} bytes, at most ${maxBytes} are read`);
    return await handle.readFile();
  } finally {
    await handle.close();
  }
}
