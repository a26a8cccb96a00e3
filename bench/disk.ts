/** What the disk of a folder can do at best, past the page cache where that can be emptied. */
import { writeFileSync } from 'node:fs';
import { open } from 'node:fs/promises';

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

/** Seconds to read all of a file once, several pieces ahead; into the same few buffers, or into memory that is fresh from the system. */
export async function readSeconds(path: string, into: 'few' | 'fresh' = 'few'): Promise<number> {
  const file = await open(path);
  try {
    const { size } = await file.stat();
    let next = 0;
    const kept: Uint8Array[] = [];
    const read = async (): Promise<void> => {
      let piece = new Uint8Array(PIECE_BYTES);
      for (let at = next; at < size; at = next) {
        next += PIECE_BYTES;
        await file.read(piece, 0, PIECE_BYTES, at);
        if (into === 'few') continue;
        kept.push(piece);
        piece = new Uint8Array(PIECE_BYTES);
      }
    };
    const began = performance.now();
    await Promise.all(Array.from({ length: READS_AHEAD }, read));
    return (performance.now() - began) / 1000;
  } finally {
    await file.close();
  }
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
