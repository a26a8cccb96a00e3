/** What the disk of a folder can do at best, past the page cache where that can be emptied. */
import { readFileSync, writeFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { DirectReads } from '../src/formats/direct-reads.ts';
import { directBuffer } from '../src/native/page-cache.ts';

const PIECE_BYTES = 4 << 20;
const READS_AHEAD = 8;

/** More than processors keep in a cache of their own: a disk fills that faster than memory, 20 % on a virtual machine, and weights do not fit in it. */
const RING_PIECES = 16;

interface ReadOptions {
  /** A ring of buffers, or memory that is fresh from the system. Default: a ring. */
  readonly into?: 'ring' | 'fresh';
  /** Of the file, a multiple of 4 KiB. Default: all. */
  readonly bytes?: number;
}

/** Bytes that this process has had read from disks, whatever the page cache had. */
export const diskBytesRead = (): number => Number(/^read_bytes: (\d+)/m.exec(readFileSync('/proc/self/io', 'utf8'))![1]);

/** Empties the page cache, so that files are read from the disk. @returns whether that was allowed */
export function dropPageCache(): boolean {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

/** Seconds to read a file, or its first bytes, once past the page cache, several pieces ahead. */
export async function readSeconds(path: string, { into = 'ring', bytes = Infinity }: ReadOptions = {}): Promise<number> {
  const size = Math.min((await stat(path)).size, bytes);
  await using direct = await DirectReads.open(path);
  if (!direct) throw new Error(`${path}: this system has no reads past the page cache`);
  const pieces: Uint8Array[] = [];
  const pieceAt = (index: number): Uint8Array => (pieces[into === 'ring' ? index % RING_PIECES : index] ??= directBuffer(PIECE_BYTES));
  let next = 0;
  const read = async (): Promise<void> => {
    for (let at = next; at < size; at = next) {
      next += PIECE_BYTES;
      await direct.read(at, pieceAt(at / PIECE_BYTES));
    }
  };
  const began = performance.now();
  await Promise.all(Array.from({ length: READS_AHEAD }, read));
  return (performance.now() - began) / 1000;
}

/** Seconds to copy a file, reading and writing both, and until it is on the disk. */
export async function copySeconds(from: string, to: string): Promise<number> {
  const [source, target] = [await open(from), await open(to, 'w')];
  try {
    const { size } = await source.stat();
    let next = 0;
    const copy = async (): Promise<void> => {
      const piece = new Uint8Array(PIECE_BYTES);
      for (let at = next; at < size; at = next) {
        next += PIECE_BYTES;
        const { bytesRead } = await source.read(piece, 0, PIECE_BYTES, at);
        await target.write(piece, 0, bytesRead, at);
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: READS_AHEAD }, copy));
    await target.sync();
    return (performance.now() - began) / 1000;
  } finally {
    await source.close();
    await target.close();
  }
}
