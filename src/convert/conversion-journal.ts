/** Which tensors of a half-written file are on disk: a file of JSON lines beside it. */
import { readFile, rm } from 'node:fs/promises';
import { DurableWriter } from '../util/durable-file.ts';
import { isRecord } from '../util/json-value.ts';
import type { TensorChecksums } from './checksums.ts';

const KIND = 'flexllmgen-conversion';
/** Of the journal and of what conversions write: a new one makes half-written files of older versions worthless. */
const VERSION = 2;

/** The checksums of the first tensors of a file, in order. */
export class ConversionJournal implements AsyncDisposable {
  /** Of the tensors that are on disk. */
  readonly checksums: TensorChecksums[];
  readonly #writer: DurableWriter;

  private constructor(writer: DurableWriter, checksums: TensorChecksums[]) {
    this.#writer = writer;
    this.checksums = checksums;
  }

  /** Goes on with a journal of the same conversion, or begins one. @param header SHA-256 of the file's header, which tells conversions apart */
  static async open(path: string, header: string): Promise<ConversionJournal> {
    const first = `${JSON.stringify({ journal: KIND, version: VERSION, header })}\n`;
    const text = await readFile(path, 'utf8').catch(() => '');
    if (text.startsWith(first)) {
      const { checksums, length } = parseLines(text, first.length);
      return new ConversionJournal(await DurableWriter.resume(path, length), checksums);
    }
    const writer = await DurableWriter.create(path);
    writer.add(first);
    await writer.write();
    return new ConversionJournal(writer, []);
  }

  /** The tensors must be on disk. */
  async add(checksums: readonly TensorChecksums[]): Promise<void> {
    for (const each of checksums) this.#writer.add(`${JSON.stringify({ tensor: this.checksums.length, ...each })}\n`);
    await this.#writer.write();
    await this.#writer.sync();
    this.checksums.push(...checksums);
  }

  async remove(): Promise<void> {
    await rm(this.#writer.path, { force: true });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#writer[Symbol.asyncDispose]();
  }
}

/** From character `start` up to the first line that was not written completely. A journal is ASCII: characters are bytes. */
function parseLines(text: string, start: number): { checksums: TensorChecksums[]; length: number } {
  const checksums: TensorChecksums[] = [];
  let length = start;
  for (let end = text.indexOf('\n', length); end >= 0; end = text.indexOf('\n', length)) {
    const parsed = parseLine(text.slice(length, end), checksums.length);
    if (!parsed) break;
    checksums.push(parsed);
    length = end + 1;
  }
  return { checksums, length };
}

function parseLine(line: string, expected: number): TensorChecksums | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (!isRecord(value) || value.tensor !== expected) return undefined;
    const { sha256, crc32 } = value;
    return isHex(sha256, 64) && isHex(crc32, 8) ? { sha256, crc32 } : undefined;
  } catch {
    return undefined;
  }
}

const isHex = (value: unknown, digits: number): value is string =>
  typeof value === 'string' && value.length === digits && /^[0-9a-f]+$/.test(value);
