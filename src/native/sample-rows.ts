/** `flx_sample_row` and `flx_sample_result` as bytes. Written word by word: a sweep has many rows, and a general encoder takes longer than sampling them. */
import koffi from 'koffi';

/** Bytes of the two; the binding compares them with the library's. */
export const SAMPLE_ROW_BYTES = 120;
export const SAMPLE_RESULT_BYTES = 104;
const ROW_WORDS = SAMPLE_ROW_BYTES / 8;
const RESULT_WORDS = SAMPLE_RESULT_BYTES / 8;

/** The fields of `flx_sample_row` with arrays in place of addresses. */
export interface KernelSampleRow {
  readonly logits: Float32Array;
  readonly mask: Uint32Array | undefined;
  /** Ids that penalties apply to, rising, and how often each was generated. */
  readonly ids: Int32Array | undefined;
  readonly counts: Int32Array | undefined;
  readonly topK: number;
  readonly repetition: number;
  readonly presence: number;
  readonly frequency: number;
  readonly temperature: number;
  readonly topP: number;
  readonly logMinP: number;
  readonly uniform: number;
  /** -1: none. */
  readonly known: number;
  /** -1: none. */
  readonly alternatives: number;
}

/** The rows in native layout, which the arrays must outlive. */
export function encodeSampleRows(rows: readonly KernelSampleRow[]): Uint8Array {
  const bytes = new ArrayBuffer(SAMPLE_ROW_BYTES * rows.length);
  const [longs, doubles, integers] = [new BigInt64Array(bytes), new Float64Array(bytes), new Int32Array(bytes)];
  for (const [i, row] of rows.entries()) {
    const at = i * ROW_WORDS;
    longs[at] = startOf(row.logits);
    // An array without elements has no address, and no mask allows everything.
    longs[at + 1] = row.mask?.length === 0 ? startOf(row.logits) : startOf(row.mask);
    longs[at + 2] = startOf(row.ids);
    longs[at + 3] = startOf(row.counts);
    longs[at + 4] = BigInt(row.mask?.length ?? 0);
    longs[at + 5] = BigInt(row.ids?.length ?? 0);
    longs[at + 6] = BigInt(row.topK);
    const { repetition, presence, frequency, temperature, topP, logMinP, uniform } = row;
    doubles.set([repetition, presence, frequency, temperature, topP, logMinP, uniform], at + 7);
    integers.set([row.known, row.alternatives], (at + 14) * 2);
  }
  return new Uint8Array(bytes);
}

export interface KernelSampleResult {
  /** Of exp(logit - best). */
  readonly sum: number;
  readonly best: number;
  /** -1: refused. */
  readonly id: number;
  /** Ids of the alternatives, best first. */
  readonly top: readonly number[];
}

/** @param bytes as `flx_sample` has left them, from the start of their buffer on */
export function decodeSampleResults(bytes: Uint8Array): KernelSampleResult[] {
  const { buffer, byteLength } = bytes;
  const [doubles, floats, integers] = [new Float64Array(buffer), new Float32Array(buffer), new Int32Array(buffer)];
  return Array.from({ length: byteLength / SAMPLE_RESULT_BYTES }, (_, i) => {
    const at = i * RESULT_WORDS * 2;
    const count = integers[at + 4]!;
    return {
      sum: doubles[at / 2]!,
      best: floats[at + 2]!,
      id: integers[at + 3]!,
      top: [...integers.subarray(at + 5, at + 5 + count)],
    };
  });
}

const startOf = (array: ArrayBufferView | undefined): bigint => (array ? koffi.address(array) : 0n);
