import { createHash } from 'node:crypto';
import { crc32 } from 'node:zlib';
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import type { StoredDtype } from '../formats/tensor-entry.ts';
import { crcHex } from '../util/crc32.ts';

/** Of the bytes of one tensor, in hex. */
export interface TensorChecksums {
  /** Tells every damage, at 1.7 GB/s: for `verify`. */
  readonly sha256: string;
  /** Tells what disks and wires do, at 5 GB/s and from pieces in any order: for the first reading in every run. */
  readonly crc32: string;
}

/** Key of each, in a file: a list in the order of the table. */
export const CHECKSUM_KEYS = { sha256: 'flexllmgen.tensor_sha256', crc32: 'flexllmgen.tensor_crc32' } as const;

/** Stands for checksums while they are not known, and takes as many bytes. */
export const UNKNOWN_CHECKSUMS: TensorChecksums = { sha256: '0'.repeat(64), crc32: '0'.repeat(8) };

/** `types` of the tensors stand beside their checksums: other programs keep the keys of a file whose tensors they write anew in other types. */
export function checksumEntries(all: readonly TensorChecksums[], types: readonly StoredDtype[]): [string, GgufEntry][] {
  return [
    [CHECKSUM_KEYS.sha256, { type: 'string[]', value: all.map(({ sha256 }) => sha256) }],
    [CHECKSUM_KEYS.crc32, { type: 'string[]', value: all.map((each, i) => `${types[i]!} ${each.crc32}`) }],
  ];
}

/** Adds up the checksums of a tensor's bytes, piece by piece in their order. */
export class ChecksumSum {
  readonly #hash = createHash('sha256');
  #crc = 0;

  add(piece: Uint8Array): void {
    this.#hash.update(piece);
    this.#crc = crc32(piece, this.#crc);
  }

  /** Once, in the end. */
  result(): TensorChecksums {
    return { sha256: this.#hash.digest('hex'), crc32: crcHex(this.#crc) };
  }
}
