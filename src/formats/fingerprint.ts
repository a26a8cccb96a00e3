import { createHash, type Hash } from 'node:crypto';
import { join } from 'node:path';
import { type ByteSource, openFile } from './byte-source.ts';
import type { WeightFile } from './weight-files.ts';

/** Text files that decide what a model computes. */
const TEXT_FILES = [
  'config.json',
  'generation_config.json',
  'tokenizer.json',
  'vocab.json',
  'merges.txt',
  'tokenizer.model',
  'tokenizer_config.json',
  'special_tokens_map.json',
  'added_tokens.json',
  'chat_template.jinja',
];
/** Hashing the 300 GB of a large model would take minutes. Training changes every tensor, so samples tell versions apart. */
const SAMPLES_PER_FILE = 64;
/** A page: what a disk reads anyway. */
const SAMPLE_BYTES = 4096;
/** Bytes hashed at a time, so that long files pass through little memory. */
const PIECE_BYTES = 1 << 20;

/**
 * SHA-256 in hex that tells models apart, the same wherever the folder lies: over configuration and tokenizer files, and over
 * each weight file's size, header and samples. `names` lists what the folder holds.
 */
export async function fingerprintOf(folder: string, names: ReadonlySet<string>, files: readonly WeightFile[]): Promise<string> {
  const hash = createHash('sha256');
  for (const name of TEXT_FILES.filter((text) => names.has(text))) {
    await using source = await openFile(join(folder, name));
    addLabel(hash, name, source);
    await addRange(hash, source, 0, source.byteLength);
  }
  for (const file of files) await addWeights(hash, file.name, file);
  return hash.digest('hex');
}

/** The same for files that hold configuration and tokenizer in their headers, in this order; their names do not count. */
export async function fingerprintOfFiles(files: readonly WeightFile[]): Promise<string> {
  const hash = createHash('sha256');
  for (const [i, file] of files.entries()) await addWeights(hash, String(i), file);
  return hash.digest('hex');
}

async function addWeights(hash: Hash, label: string, { source, headerBytes }: WeightFile): Promise<void> {
  addLabel(hash, label, source);
  await addRange(hash, source, 0, headerBytes);
  await addSamples(hash, source);
}

/** Name and size before the content: no two lists of files give the same bytes. */
function addLabel(hash: Hash, name: string, { byteLength }: ByteSource): void {
  hash.update(`${JSON.stringify(name)} ${byteLength}\n`);
}

async function addSamples(hash: Hash, source: ByteSource): Promise<void> {
  if (source.byteLength <= SAMPLES_PER_FILE * SAMPLE_BYTES) return addRange(hash, source, 0, source.byteLength);
  const last = source.byteLength - SAMPLE_BYTES;
  for (let i = 0; i < SAMPLES_PER_FILE; i++) {
    await addRange(hash, source, Math.floor((last * i) / (SAMPLES_PER_FILE - 1)), SAMPLE_BYTES);
  }
}

async function addRange(hash: Hash, source: ByteSource, start: number, byteLength: number): Promise<void> {
  const buffer = new Uint8Array(Math.min(byteLength, PIECE_BYTES));
  for (let done = 0; done < byteLength; done += buffer.length) {
    const piece = buffer.subarray(0, Math.min(buffer.length, byteLength - done));
    await source.read(start + done, piece);
    hash.update(piece);
  }
}
