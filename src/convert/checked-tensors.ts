/** Tensors whose bytes are compared with their checksums when they are read for the first time. */
import { crc32 } from 'node:zlib';
import type { ByteSource } from '../formats/byte-source.ts';
import type { GgufMetadata } from '../formats/gguf/gguf-metadata.ts';
import type { StoredTensor } from '../formats/tensor-entry.ts';
import { crcHex, joinCrcs } from '../util/crc32.ts';
import { FormatError } from '../util/errors.ts';
import { CHECKSUM_KEYS } from './checksums.ts';

type Entries = ReadonlyMap<string, StoredTensor>;

/** The same tensors, checked if the file has checksums of them. */
export function checkedTensors(metadata: GgufMetadata, entries: Entries): Entries {
  const checksums: unknown = metadata.get(CHECKSUM_KEYS.crc32);
  if (!Array.isArray(checksums) || checksums.length !== entries.size) return entries;
  const expected = [...entries.values()].map(({ dtype }, i) => {
    const [type, crc] = String(checksums[i]).split(' ');
    return type === dtype ? crc : undefined;
  });
  if (!expected.every((crc) => crc !== undefined)) return entries; // another program wrote the tensors
  return new Map([...entries].map(([name, entry], i) => [name, { ...entry, source: new CheckedSource(entry, expected[i]!) }]));
}

/** Bytes `from` to `to` of a tensor. */
interface Run {
  readonly from: number;
  readonly to: number;
  readonly crc: number;
}

/** The file of one tensor. The read with which all of its bytes have been read once throws if they are not those that were written. */
class CheckedSource implements ByteSource {
  readonly name: string;
  readonly byteLength: number;
  readonly #tensor: StoredTensor;
  readonly #expected: string;
  /** What has been read, in order, without gaps inside. Undefined when all of it was, and was right. */
  #runs: Run[] | undefined = [];

  constructor(tensor: StoredTensor, expected: string) {
    this.name = tensor.source.name;
    this.byteLength = tensor.source.byteLength;
    this.#tensor = tensor;
    this.#expected = expected;
  }

  async read(start: number, target: Uint8Array): Promise<void> {
    await this.#tensor.source.read(start, target);
    const from = start - this.#tensor.start;
    const to = from + target.byteLength;
    if (this.#runs?.every((run) => run.to <= from || to <= run.from)) this.#add({ from, to, crc: crc32(target) });
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.#tensor.source[Symbol.asyncDispose]();
  }

  #add(run: Run): void {
    this.#runs = withRun(this.#runs!, run);
    const [first] = this.#runs;
    if (!first || first.from > 0 || first.to < this.#tensor.byteLength) return;
    const got = crcHex(first.crc);
    if (got !== this.#expected)
      throw new FormatError(this.name, `is damaged: its bytes have the CRC-32 ${got}, ${this.#expected} were written`);
    this.#runs = undefined;
  }
}

/** Runs that touch become one. */
function withRun(runs: readonly Run[], run: Run): Run[] {
  const joined: Run[] = [];
  for (const next of [...runs, run].sort((a, b) => a.from - b.from)) {
    const last = joined.at(-1);
    if (last?.to !== next.from) joined.push(next);
    else joined[joined.length - 1] = { from: last.from, to: next.to, crc: joinCrcs(last.crc, next.crc, next.to - next.from) };
  }
  return joined;
}
