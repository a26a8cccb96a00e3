import { FormatError } from '../util/errors.ts';
import { openFile } from './byte-source.ts';

export type JsonObject = Readonly<Record<string, unknown>>;

/** Reads a file that holds one JSON object. @throws {FormatError} naming the file when it is missing, too long or something else */
export async function readJsonObject(path: string, maxBytes: number): Promise<JsonObject> {
  await using source = await openFile(path);
  if (source.byteLength > maxBytes) throw new FormatError(path, `has ${source.byteLength} bytes, at most ${maxBytes} are read`);
  const bytes = new Uint8Array(source.byteLength);
  await source.read(0, bytes);
  return parseJsonObject(path, 'file', bytes);
}

/** `what` names the bytes' place in the file for messages. @throws {FormatError} */
export function parseJsonObject(file: string, what: string, bytes: Uint8Array): JsonObject {
  const value = parse(file, what, bytes);
  if (isJsonObject(value)) return value;
  const found = value === null ? 'null' : Array.isArray(value) ? 'an array' : `a ${typeof value}`;
  throw new FormatError(file, `${what} is not a JSON object but ${found}`);
}

export function isJsonObject(value: unknown): value is JsonObject {
  return typeof value === 'object' && value !== null && !Array.isArray(value);
}

function parse(file: string, what: string, bytes: Uint8Array): unknown {
  try {
    return JSON.parse(new TextDecoder('utf-8', { fatal: true }).decode(bytes));
  } catch (cause) {
    const reason = cause instanceof SyntaxError ? cause.message : 'invalid UTF-8';
    throw new FormatError(file, `${what} is not JSON: ${escapeControls(reason)}`, {}, { cause });
  }
}

/** The engine's message quotes the text around the fault. */
const escapeControls = (text: string): string => text.replace(/\p{Cc}/gu, (c) => `\\u${c.charCodeAt(0).toString(16).padStart(4, '0')}`);
