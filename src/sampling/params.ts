/** How a completion is sampled and when it ends. All fields are resolved; defaults are applied by the caller. */
export interface SamplingParams {
  /** 0 is greedy. */
  readonly temperature: number;
  /** Keep the k most probable tokens, and any as probable as the k-th; 0 keeps all. */
  readonly topK: number;
  /** Of what topK left, keep the smallest set of most probable tokens whose probabilities sum to at least this, in (0, 1]. */
  readonly topP: number;
  /** Of what topP left, keep tokens of at least this times the probability of the most probable one, in [0, 1]; 0 keeps all. */
  readonly minP: number;
  /** Logits of tokens of the prompt and the completion are divided by this if positive, multiplied otherwise; in (0, 100], 1 leaves them alone. */
  readonly repetitionPenalty: number;
  /** Subtracted from the logits of tokens that were generated, in [-2, 2]. */
  readonly presencePenalty: number;
  /** The same for each time that a token was generated. */
  readonly frequencyPenalty: number;
  /** Key of the random generator together with the row and the position; an integer in [0, 2^32). */
  readonly seed: number;
  /** Most tokens to generate; 0 only with promptLogprobs, to score a prompt. */
  readonly maxTokens: number;
  /** Ids that end the completion, beside the model's own. */
  readonly stopTokenIds: readonly number[];
  /** The model's end-of-sequence ids do not end the completion. */
  readonly ignoreEos: boolean;
  /** Number of alternatives whose log-probabilities are reported for each generated token; undefined reports none, 0 the chosen token only. */
  readonly logprobs?: number;
  /** The same for the tokens of the prompt. */
  readonly promptLogprobs?: number;
}

/** A token and its log-probability (natural logarithm, temperature 1, before any filter). */
export interface TokenLogprob {
  readonly id: number;
  readonly logprob: number;
}

/** The log-probability of a token that was chosen, and of the most probable ones at its position, best first. */
export interface PositionLogprobs extends TokenLogprob {
  readonly top: readonly TokenLogprob[];
}

/**
 * Restricts the next token of a row. Asked before each sampling step; constrained output builds on this.
 * @param generated ids generated so far
 * @returns allowed ids as a bit set (bit id % 32 of word id >> 5), or undefined when all are allowed
 */
export type TokenMask = (generated: readonly number[]) => Uint32Array | undefined;
