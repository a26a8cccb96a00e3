import { FormatError } from '../util/errors.ts';

/** Real ones have 250 kB. */
const MAX_CHARSMAP_BYTES = 4 * 2 ** 20;

/**
 * A table of replacements: bytes of a trie, the trie in units of 4 bytes (a double array as the library Darts-clone lays it out), then texts with a
 * zero behind each. The tokenizers library ends the process when one points outside, so every way through the trie is walked before.
 * @throws {FormatError}
 */
export function checkCharsmap(file: string, bytes: Uint8Array): void {
  if (bytes.length === 0) return;
  const fail = (problem: string): never => {
    throw new FormatError(file, `precompiled_charsmap ${problem}`);
  };
  if (bytes.length > MAX_CHARSMAP_BYTES) fail(`has ${bytes.length} bytes, at most ${MAX_CHARSMAP_BYTES} are read`);
  const view = new DataView(bytes.buffer, bytes.byteOffset, bytes.byteLength);
  const size = bytes.length < 8 ? 0 : view.getUint32(0, true);
  if (size === 0 || size % 4 !== 0 || size > bytes.length - 4) fail('is cut off');
  const units = Uint32Array.from({ length: size / 4 }, (_, i) => view.getUint32(4 + 4 * i, true));
  const texts = bytes.subarray(4 + size);
  try {
    new TextDecoder('utf-8', { fatal: true }).decode(texts);
  } catch {
    fail('has texts that are not UTF-8');
  }
  const isText = (at: number) => at < texts.length && (texts[at]! & 0xc0) !== 0x80;
  const seen = new Uint8Array(units.length);
  const open = [0];
  for (let node = open.pop(); node !== undefined; node = open.pop()) {
    const unit = units[node]!;
    const next = (node ^ offsetOf(unit)) >>> 0;
    if ((next | 0xff) >>> 0 >= units.length) fail('has a node outside');
    if (node !== 0 && (unit & HAS_LEAF) !== 0 && !isText(units[next]! & 0x7fffffff)) fail('has a text outside');
    for (let byte = 1; byte < 256; byte++) {
      const child = next ^ byte;
      if (seen[child] !== 0 || (units[child]! & 0x800000ff) >>> 0 !== byte) continue;
      seen[child] = 1;
      open.push(child);
    }
  }
}

const HAS_LEAF = 0x100;
const offsetOf = (unit: number): number => ((unit >>> 10) << ((unit & 0x200) >>> 6)) >>> 0;
