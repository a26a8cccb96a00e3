import { createHash } from 'node:crypto';
import { openGguf } from '../formats/gguf/gguf-file.ts';
import type { StoredTensor } from '../formats/tensor-entry.ts';
import { FormatError } from '../util/errors.ts';
import { readAhead } from '../util/read-ahead.ts';
import { CHECKSUM_KEYS } from './checksums.ts';

export interface Verification {
  readonly tensors: number;
  readonly bytes: number;
  /** Names of tensors whose bytes are not those that were written. */
  readonly damaged: readonly string[];
}

export interface VerifyProgress {
  readonly done: number;
  readonly total: number;
}

const PIECE_BYTES = 4 << 20;
const PIECES_AHEAD = 2;

/**
 * Compares every tensor of a converted file with its checksum.
 * @throws {FormatError} when the file cannot be read, or has no checksums
 */
export async function verifyModel(path: string, onProgress?: (bytes: VerifyProgress) => void): Promise<Verification> {
  await using gguf = await openGguf(path);
  const entries = [...gguf.entries.values()];
  const checksums = gguf.metadata.get(CHECKSUM_KEYS.sha256);
  if (checksums === undefined) throw new FormatError(path, `has no checksums (${CHECKSUM_KEYS.sha256}); flexllmgen convert writes them`);
  if (!Array.isArray(checksums) || checksums.length !== entries.length)
    throw new FormatError(path, `${CHECKSUM_KEYS.sha256}: a list of ${entries.length} checksums expected`);
  const total = entries.reduce((sum, { byteLength }) => sum + byteLength, 0);
  let done = 0;
  const damaged: string[] = [];
  for (const [i, entry] of entries.entries()) {
    const found = await checksumOf(entry, (bytes) => onProgress?.({ done: (done += bytes), total }));
    if (found !== (checksums as readonly unknown[])[i]) damaged.push(entry.name);
  }
  return { tensors: entries.length, bytes: total, damaged };
}

async function checksumOf({ source, start, byteLength }: StoredTensor, onBytes: (bytes: number) => void): Promise<string> {
  const hash = createHash('sha256');
  const starts = Array.from({ length: Math.ceil(byteLength / PIECE_BYTES) }, (_, i) => i * PIECE_BYTES);
  const read = async (at: number): Promise<Uint8Array> => {
    const piece = new Uint8Array(Math.min(PIECE_BYTES, byteLength - at));
    await source.read(start + at, piece);
    return piece;
  };
  for await (const piece of readAhead(starts, PIECES_AHEAD, read)) {
    hash.update(piece);
    onBytes(piece.byteLength);
  }
  return hash.digest('hex');
}
