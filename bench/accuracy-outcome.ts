/** What a model makes of labelled rows. */
export interface AccuracyOutcome {
  /** Rows whose greedy answer is the label, character by character. */
  readonly right: number;
  /** Of all tokens of all labels and of the end after each, in order. */
  readonly logprobs: readonly number[];
  readonly kernels: string;
}

export interface AccuracyLoss {
  /** Percent of the rows. */
  readonly right: number;
  /** Percentage points more than the exact model. */
  readonly points: number;
  /** Mean absolute difference of log-probabilities from the exact model, nats a token. */
  readonly error: number;
  /** Mean difference: negative where labels have become less probable. */
  readonly shift: number;
}

/** Compares a model with the exact one on the same rows. */
export function accuracyLoss(outcome: AccuracyOutcome, exact: AccuracyOutcome, rows: number): AccuracyLoss {
  const differences = outcome.logprobs.map((value, i) => value - exact.logprobs[i]!);
  return {
    right: (100 * outcome.right) / rows,
    points: (100 * (outcome.right - exact.right)) / rows,
    error: mean(differences.map(Math.abs)),
    shift: mean(differences),
  };
}

const mean = (values: readonly number[]): number => values.reduce((sum, value) => sum + value, 0) / values.length;
