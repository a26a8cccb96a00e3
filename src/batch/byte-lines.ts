/** A line of a file, without its end. */
export interface ByteLine {
  /** From 1. */
  readonly line: number;
  /** Byte at which it starts. */
  readonly start: number;
  /** Undefined for a line longer than the limit. */
  readonly bytes?: Buffer;
  /** False for a last line that no newline ends. */
  readonly ended: boolean;
}

const NEWLINE = 10;

/** Splits at \n. Lines longer than `limit` bytes are passed over without being kept. An empty rest after the last \n is no line. */
export async function* byteLines(chunks: AsyncIterable<Buffer>, limit: number): AsyncGenerator<ByteLine, void, void> {
  let parts: Buffer[] = [];
  let length = 0;
  let line = 1;
  let start = 0;
  const take = (ended: boolean): ByteLine => {
    const bytes = length > limit ? undefined : parts.length === 1 && parts[0] !== undefined ? parts[0] : Buffer.concat(parts);
    const taken = { line, start, ended, ...(bytes && { bytes }) };
    line++;
    start += length + 1;
    parts = [];
    length = 0;
    return taken;
  };
  for await (const chunk of chunks) {
    let from = 0;
    for (let at = chunk.indexOf(NEWLINE); at >= 0; at = chunk.indexOf(NEWLINE, from)) {
      length += at - from;
      if (length <= limit) parts.push(chunk.subarray(from, at));
      yield take(true);
      from = at + 1;
    }
    length += chunk.length - from;
    if (length > limit) parts = [];
    else if (from < chunk.length) parts.push(chunk.subarray(from));
  }
  if (length > 0) yield take(false);
}
