/** What the disk of a folder can do at best, past the page cache where that can be emptied. */
import { writeFileSync } from 'node:fs';
import { open, stat } from 'node:fs/promises';
import { DirectReads } from '../src/formats/direct-reads.ts';
import { directBuffer } from '../src/native/page-cache.ts';

const PIECE_BYTES = 4 << 20;
const READS_AHEAD = 4;

/** Empties the page cache, so that files are read from the disk. @returns whether that was allowed */
export function dropPageCache(): boolean {
  try {
    writeFileSync('/proc/sys/vm/drop_caches', '3');
    return true;
  } catch {
    return false;
  }
}

/** Seconds to read all of a file once past the page cache, several pieces ahead; into the same few buffers, or into memory that is fresh from the system. */
export async function readSeconds(path: string, into: 'few' | 'fresh' = 'few'): Promise<number> {
  const { size } = await stat(path);
  await using direct = await DirectReads.open(path);
  if (!direct) throw new Error(`${path}: this system has no reads past the page cache`);
  let next = 0;
  const kept: Uint8Array[] = [];
  const read = async (): Promise<void> => {
    let piece = directBuffer(PIECE_BYTES);
    for (let at = next; at < size; at = next) {
      next += PIECE_BYTES;
      await direct.read(at, piece);
      if (into === 'few') continue;
      kept.push(piece);
      piece = directBuffer(PIECE_BYTES);
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
