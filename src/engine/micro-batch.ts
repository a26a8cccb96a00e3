import type { BatchRow } from '../tensor/device.ts';
import type { Sequence } from './sequence.ts';

/** A position whose hidden state passes the head, because a token is sampled there or the next token of the prompt is scored. */
export interface OutputPosition {
  readonly sequence: Sequence;
  /** Row of the micro-batch's hidden state. */
  readonly row: number;
  /** Position of the token that this output predicts. */
  readonly position: number;
}

/** What one micro-batch computes in one sweep. */
export interface MicroBatch {
  readonly sequences: readonly Sequence[];
  readonly rows: readonly BatchRow[];
  readonly outputs: readonly OutputPosition[];
  /** Tokens that belong to prompts and are computed for the first time. */
  readonly promptTokens: number;
  /** Tokens of prompts that were in the cache already, of the sequences that begin. */
  readonly sharedTokens: number;
}

/**
 * How many tokens each sequence computes in this sweep, in up to `chunks` pieces of `batchTokens` that follow each other: decoding rows one each in the
 * first, then prompts, and what is computed again, in order of admission while there is room.
 */
export function chunkSizes(sequences: readonly Sequence[], batchTokens: number, chunks: number): number[][] {
  const left = sequences.map((sequence) => (sequence.awaits ? 0 : sequence.pending));
  const pieces: number[][] = [];
  for (let chunk = 0; chunk < chunks && (chunk === 0 || left.some((tokens) => tokens > 0)); chunk++) {
    let room = batchTokens - sequences.filter((sequence, i) => sequence.decodes && left[i]! > 0).length;
    const sizes = sequences.map((sequence, i) => {
      const size = sequence.decodes ? left[i]! : Math.min(left[i]!, Math.max(0, room));
      if (!sequence.decodes) room -= size;
      left[i]! -= size;
      return size;
    });
    pieces.push(sizes);
  }
  return pieces;
}

/** Assembles the pieces of a sweep. The pages of all positions must have been taken. */
export function assembleChunks(sequences: readonly Sequence[], pieces: readonly (readonly number[])[]): MicroBatch[] {
  const starts = sequences.map(({ computed }) => computed);
  return pieces.map((sizes) => {
    const microBatch = assembleMicroBatch(sequences, sizes, starts);
    for (const [i, size] of sizes.entries()) starts[i]! += size;
    return microBatch;
  });
}

/** Assembles the rows of one piece, without padding. `starts`: positions of its first tokens; default: behind what is computed. */
export function assembleMicroBatch(
  sequences: readonly Sequence[],
  sizes: readonly number[],
  starts: readonly number[] = sequences.map(({ computed }) => computed),
): MicroBatch {
  const active = sequences.filter((_, i) => sizes[i]! > 0);
  const rows: BatchRow[] = [];
  const outputs: OutputPosition[] = [];
  let row = 0;
  let promptTokens = 0;
  let sharedTokens = 0;
  for (const [i, sequence] of sequences.entries()) {
    const size = sizes[i]!;
    if (size === 0) continue;
    const start = starts[i]!;
    const chunk = Int32Array.from({ length: size }, (_, n) => sequence.tokenAt(start + n));
    rows.push({ tokens: chunk, start, total: sequence.length, prompt: sequence.tokens.length, ...sequence.cache.pageLists });
    for (const position of outputPositions(sequence, start, size)) outputs.push({ sequence, row: row + position - 1 - start, position });
    promptTokens += Math.max(0, Math.min(start + size, sequence.request.tokens.length) - Math.max(start, sequence.furthest));
    if (start === sequence.shared) sharedTokens += start;
    row += size;
  }
  return { sequences: active, rows, outputs, promptTokens, sharedTokens };
}

/** Positions predicted from the chunk [start, start + size): the scored rest of the prompt, and the next token once the prompt is done. */
function outputPositions(sequence: Sequence, start: number, size: number): number[] {
  const { tokens, sampling } = sequence.request;
  const next = Math.max(start, sequence.furthest) + 1; // what is computed again has been scored and sampled
  const first = sampling.promptLogprobs === undefined ? Math.max(next, tokens.length) : next;
  const samples = sampling.maxTokens > 0;
  const last = Math.min(start + size, samples ? sequence.length : tokens.length - 1);
  return Array.from({ length: Math.max(0, last - first + 1) }, (_, i) => first + i);
}
