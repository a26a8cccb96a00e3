import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';

/** Key of a file's checksums: SHA-256 in hex of every tensor, in the order of the table. */
export const CHECKSUMS_KEY = 'flexllmgen.tensor_sha256';

const HEX_LENGTH = 64;

/** Stands for the checksums while they are not known, and takes as many bytes. */
export const unknownChecksums = (count: number): string[] => Array.from({ length: count }, () => '0'.repeat(HEX_LENGTH));

export const checksumEntry = (checksums: readonly string[]): GgufEntry => ({ type: 'string[]', value: checksums });
