import { createHash } from 'node:crypto';
import { createReadStream } from 'node:fs';
import { UsageError } from '../util/errors.ts';
import type { Digest } from '../util/durable-file.ts';

/** The bytes of a file, without a UTF-8 byte order mark. */
export interface FileChunks {
  readonly chunks: AsyncGenerator<Buffer, void, void>;
  readonly hasBom: () => boolean;
  /** Of the whole file with its mark; complete when `chunks` has ended. */
  readonly digest: () => Digest;
}

const UTF8_BOM = Buffer.from([0xef, 0xbb, 0xbf]);
const UTF16_BOMS = [Buffer.from([0xff, 0xfe]), Buffer.from([0xfe, 0xff])];
/** A CSV parser turns a whole chunk into rows at once, and rows that wait outlive cheap garbage collection: 64 KiB takes 25 MB more. */
const CHUNK_BYTES = 16 * 1024;

/** @throws {UsageError} for a file in UTF-16 */
export function fileChunks(path: string): FileChunks {
  const hash = createHash('sha256');
  let bytes = 0;
  let bom = false;
  async function* read(): AsyncGenerator<Buffer, void, void> {
    for await (const chunk of createReadStream(path, { highWaterMark: CHUNK_BYTES }) as AsyncIterable<Buffer>) {
      const first = bytes === 0;
      hash.update(chunk);
      bytes += chunk.length;
      if (first) {
        if (UTF16_BOMS.some((mark) => chunk.subarray(0, 2).equals(mark))) throw new UsageError(`${path} is in UTF-16; save it as UTF-8`);
        bom = chunk.subarray(0, 3).equals(UTF8_BOM);
      }
      yield first && bom ? chunk.subarray(3) : chunk;
    }
  }
  return { chunks: read(), hasBom: () => bom, digest: () => ({ bytes, sha256: hash.copy().digest('hex') }) };
}
