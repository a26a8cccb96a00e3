import type { Detokenizer, StreamDecoder } from './detokenizer.ts';

/** Decodes GPT-2 style byte-level tokens. `tokens[id]` is the token as the vocabulary spells it, null where an id is unused. */
export function byteLevelDetokenizer(tokens: readonly (string | null)[], specialIds: ReadonlySet<number>): Detokenizer {
  const byteOf = byteAlphabet();
  return bytesDetokenizer(
    tokens.map((token) => (token === null ? NO_BYTES : tokenBytes(token, byteOf))),
    specialIds,
  );
}

/** Decodes tokens of which each stands for bytes, whatever comes before it. */
export function bytesDetokenizer(parts: readonly Uint8Array[], specialIds: ReadonlySet<number>): Detokenizer {
  const table = buildTable(parts);
  const isHidden = (id: number, skipSpecialTokens: boolean) => !isKnown(table, id) || (skipSpecialTokens && specialIds.has(id));
  return {
    decode: (ids, skipSpecialTokens) => {
      const shown: Buffer[] = [];
      for (let i = 0; i < ids.length; i++) {
        const id = ids[i] as number;
        if (!isHidden(id, skipSpecialTokens)) shown.push(bytesOf(table, id));
      }
      return Buffer.concat(shown).toString('utf8');
    },
    stream: (skipSpecialTokens) => new ByteStream((id) => (isHidden(id, skipSpecialTokens) ? NO_BYTES : bytesOf(table, id))),
  };
}

/** Bytes of token i: `bytes[starts[i]]` to `bytes[starts[i + 1]]`. */
interface ByteTable {
  readonly bytes: Buffer;
  readonly starts: Uint32Array;
}

const NO_BYTES = Buffer.alloc(0);

const isKnown = ({ starts }: ByteTable, id: number) => Number.isInteger(id) && id >= 0 && id < starts.length - 1;
const bytesOf = ({ bytes, starts }: ByteTable, id: number) => bytes.subarray(starts[id], starts[id + 1]);

function buildTable(parts: readonly Uint8Array[]): ByteTable {
  const starts = new Uint32Array(parts.length + 1);
  for (const [i, part] of parts.entries()) starts[i + 1] = (starts[i] as number) + part.length;
  return { bytes: Buffer.concat(parts), starts };
}

/** A token with any character outside the alphabet (an added one, say) stands for its own UTF-8. */
export function tokenBytes(token: string, byteOf: ReadonlyMap<string, number>): Uint8Array {
  const bytes = Array.from(token, (character) => byteOf.get(character));
  return bytes.includes(undefined) ? Buffer.from(token, 'utf8') : Uint8Array.from(bytes as number[]);
}

/**
 * Bytes by their characters: GPT-2 spells a byte as the Latin-1 character with its number where that is printable, else as the next character from U+0100 on.
 * Source: `bytes_to_unicode` in encoder.py of the GPT-2 release.
 */
export function byteAlphabet(): ReadonlyMap<string, number> {
  let next = 0x100;
  return new Map(Array.from({ length: 256 }, (_, byte) => [String.fromCharCode(isPrintable(byte) ? byte : next++), byte]));
}

const isPrintable = (byte: number) => (byte >= 0x21 && byte <= 0x7e) || (byte >= 0xa1 && byte <= 0xac) || byte >= 0xae;

class ByteStream implements StreamDecoder {
  readonly #bytesOf: (id: number) => Buffer;
  /** At most 3 bytes that may still become a character. */
  #pending: Buffer = NO_BYTES;

  constructor(bytes: (id: number) => Buffer) {
    this.#bytesOf = bytes;
  }

  push(id: number): string {
    const added = this.#bytesOf(id);
    const bytes = this.#pending.length === 0 ? added : Buffer.concat([this.#pending, added]);
    const final = bytes.length - unfinishedBytes(bytes);
    this.#pending = bytes.subarray(final);
    return bytes.toString('utf8', 0, final);
  }

  end(): string {
    const text = this.#pending.toString('utf8');
    this.#pending = NO_BYTES;
    return text;
  }
}

/** How many bytes at the end begin a character and do not finish it. If they turn out to be no UTF-8, they were only held back for longer. */
function unfinishedBytes(bytes: Uint8Array): number {
  for (let count = 1; count <= Math.min(3, bytes.length); count++) {
    const byte = bytes[bytes.length - count] as number;
    const isContinuation = byte >= 0x80 && byte <= 0xbf;
    if (!isContinuation) return count < sequenceLength(byte) ? count : 0;
  }
  return 0;
}

/** Bytes of a character by its first byte; 0 if none begins so. Source: The Unicode Standard, table 3-7. */
function sequenceLength(first: number): number {
  if (first < 0x80) return 1;
  if (first < 0xc2 || first > 0xf4) return 0;
  return first < 0xe0 ? 2 : first < 0xf0 ? 3 : 4;
}
