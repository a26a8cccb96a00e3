import { createHash } from 'node:crypto';

/** The first 64 bits of SHA-256: enough to tell contents apart, small enough to keep millions. */
export function hash64(text: string): bigint {
  return createHash('sha256').update(text).digest().readBigUInt64BE(0);
}

/** 16 hexadecimal digits. */
export function hex64(hash: bigint): string {
  return hash.toString(16).padStart(16, '0');
}
