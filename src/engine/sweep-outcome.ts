import type { SequenceRequest, SequenceResult } from './sequence.ts';

/** What one sweep brought. */
export interface SweepOutcome {
  /** Sampled tokens in the order of the rows; at most one per sequence. */
  readonly tokens: readonly { readonly id: number; readonly token: number }[];
  readonly finished: readonly SequenceResult[];
  /** Tokens of prompts that were computed. */
  readonly promptTokens: number;
  /** Tokens of prompts that were not, because another sequence that begins with them had computed them. */
  readonly sharedTokens: number;
  readonly seconds: number;
  /** Sequences still in flight. */
  readonly running: number;
  /** Prompt tokens of the sequences that were admitted for this sweep. */
  readonly admittedTokens: number;
}

/** A request, or a wish to be heard: the engine then yields an outcome, empty if nothing is in flight. */
export type EngineInput = SequenceRequest | 'pause';

/** Of a sweep without sequences. */
export const NOTHING: SweepOutcome = {
  tokens: [],
  finished: [],
  promptTokens: 0,
  sharedTokens: 0,
  seconds: 0,
  running: 0,
  admittedTokens: 0,
};
