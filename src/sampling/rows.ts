/** What a sweep's logits become, row by row, in TypeScript: the reference of native-rows.ts, and what is used where there are no kernels. */
import { logprobsOf } from './logprobs.ts';
import type { PositionLogprobs } from './params.ts';
import type { TokenCounts } from './penalties.ts';
import { type ChoiceParams, sample, type SamplingPlace } from './sampler.ts';

/** Logits of one position, and what is wanted of them. */
export interface LogitsRow {
  /** [vocabulary] */
  readonly logits: Float32Array;
  readonly params: ChoiceParams;
  readonly place: SamplingPlace;
  /** Allowed ids as a bit set; undefined allows all. */
  readonly mask?: Uint32Array | undefined;
  /** Of the sequence so far; needed where there are penalties. */
  readonly tokens?: TokenCounts | undefined;
  /** The token is known, such as one of a prompt, and is scored only. */
  readonly known?: number | undefined;
  /** How many alternatives are reported; undefined asks for no log-probabilities. */
  readonly alternatives?: number | undefined;
}

export interface TakenRow {
  readonly id: number;
  readonly logprobs?: PositionLogprobs;
}

/** One result for each row, in their order; what `takeRow` throws is the result of its row. The logits must not change until it is there. */
export type RowSampler = (rows: readonly LogitsRow[]) => Promise<(TakenRow | Error)[]>;

/** @throws {NumericError} {RequestError} as `sample` and `logprobsOf` do */
export function takeRow({ logits, params, place, mask, tokens, known, alternatives }: LogitsRow): TakenRow {
  const id = known ?? sample(logits, params, place, mask, tokens);
  return alternatives === undefined ? { id } : { id, logprobs: logprobsOf(logits, id, alternatives) };
}

export function takenOrError(row: LogitsRow): TakenRow | Error {
  try {
    return takeRow(row);
  } catch (error) {
    if (error instanceof Error) return error;
    throw error;
  }
}

export const takeRows: RowSampler = async (rows) => rows.map(takenOrError);
