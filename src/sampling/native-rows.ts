/** Rows of a sweep on our kernels, all of them in one call. The same results as `takeRows`, to the last bit of a log-probability. */
import {
  decodeSampleResults,
  encodeSampleRows,
  type KernelSampleResult,
  type KernelSampleRow,
  SAMPLE_RESULT_BYTES,
} from '../native/sample-rows.ts';
import type { Kernels, Team } from '../native/kernels.ts';
import type { Device } from '../tensor/device.ts';
import { internalError } from '../util/errors.ts';
import { logprobsFrom } from './logprobs.ts';
import { hasPenalties } from './penalties.ts';
import { uniform } from './random.ts';
import { type LogitsRow, type RowSampler, type TakenRow, takenOrError, takeRows } from './rows.ts';

/** Samples with the kernels of the device if it has some, otherwise in TypeScript. */
export function rowSampler(device: Device): RowSampler {
  if (!device.withKernels) return takeRows;
  const native = new NativeRows();
  return (rows) => device.withKernels!((kernels, team) => native.take(kernels, team, rows));
}

/** Keeps memory between calls: fresh memory takes longer to be had from the system than a row to be sampled. */
export class NativeRows {
  #scratch = new Float64Array(0);

  /** One call at a time. All rows have the same vocabulary. */
  async take(kernels: Kernels, team: Team, rows: readonly LogitsRow[]): Promise<(TakenRow | Error)[]> {
    const vocabulary = rows[0]?.logits.length ?? 0;
    if (vocabulary === 0) return takeRows(rows);
    if (rows.some(({ logits }) => logits.length !== vocabulary)) throw internalError('rows of different vocabularies in one call');
    const scratchLength = kernels.sampleScratchBytes(vocabulary, rows.length) / 8;
    if (this.#scratch.length < scratchLength) this.#scratch = new Float64Array(scratchLength);
    const scratch = this.#scratch;
    const results = new Uint8Array(SAMPLE_RESULT_BYTES * rows.length);
    const bytes = encodeSampleRows(rows.map(kernelRow));
    await new Promise<void>((resolve, reject) => {
      kernels.sample.async(team, bytes, rows.length, vocabulary, scratch, results, (error) => (error ? reject(error) : resolve()));
    });
    return decodeSampleResults(results).map((result, i) => takenRow(rows[i]!, result));
  }
}

function kernelRow({ logits, params, place, mask, tokens, known, alternatives }: LogitsRow): KernelSampleRow {
  const counts = tokens && hasPenalties(params) ? tokens : undefined;
  return {
    logits,
    mask,
    ids: counts?.ids,
    counts: counts?.counts,
    topK: params.topK,
    repetition: params.repetitionPenalty,
    presence: params.presencePenalty,
    frequency: params.frequencyPenalty,
    temperature: params.temperature,
    topP: params.topP,
    logMinP: Math.log(params.minP),
    uniform: params.temperature === 0 ? 0 : uniform(params.seed, place.key, place.position),
    known: known ?? -1,
    alternatives: alternatives ?? -1,
  };
}

function takenRow(row: LogitsRow, { id, sum, best, top }: KernelSampleResult): TakenRow | Error {
  // The reference knows what to say.
  if (id < 0) return takenOrError(row);
  return row.alternatives === undefined ? { id } : { id, logprobs: logprobsFrom(row.logits, id, best, sum, top) };
}
