/** Which tensors of a half-written file are on disk: a file of JSON lines beside it. */
import { readFile, rm } from 'node:fs/promises';
import { DurableWriter } from '../util/durable-file.ts';
import { isRecord } from '../util/json-value.ts';

const KIND = 'flexllmgen-conversion';
/** Of the journal and of what conversions write: a new one makes half-written files of older versions worthless. */
const VERSION = 1;

/** The checksums of the first tensors of a file, in order. */
export class ConversionJournal implements AsyncDisposable {
  /** SHA-256 in hex of the tensors that are on disk. */
  readonly checksums: string[];
  readonly #writer: DurableWriter;

  private constructor(writer: DurableWriter, checksums: string[]) {
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
  async add(checksums: readonly string[]): Promise<void> {
    for (const sha256 of checksums) this.#writer.add(`${JSON.stringify({ tensor: this.checksums.length, sha256 })}\n`);
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
function parseLines(text: string, start: number): { checksums: string[]; length: number } {
  const checksums: string[] = [];
  let length = start;
  for (let end = text.indexOf('\n', length); end >= 0; end = text.indexOf('\n', length)) {
    const sha256 = parseLine(text.slice(length, end), checksums.length);
    if (sha256 === undefined) break;
    checksums.push(sha256);
    length = end + 1;
  }
  return { checksums, length };
}

function parseLine(line: string, expected: number): string | undefined {
  try {
    const value: unknown = JSON.parse(line);
    if (!isRecord(value) || value.tensor !== expected) return undefined;
    return typeof value.sha256 === 'string' && /^[0-9a-f]{64}$/.test(value.sha256) ? value.sha256 : undefined;
  } catch {
    return undefined;
  }
}
