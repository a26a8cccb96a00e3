/** How long rows become, from those that are done: what is reserved for a row decides how many fit. */

/** Rows that must be done before others are thought to be like them. */
const LEAST_ROWS = 16;
/** Tokens of an answer that are reserved at least. */
const LEAST_TOKENS = 16;
/** Standard deviations above the mean: of a hundred rows, a few grow beyond it. */
const DEVIATIONS = 2;

export class LengthEstimate {
  #rows = 0;
  #sum = 0;
  #squares = 0;

  /** A row ended with so many generated tokens. */
  add(generated: number): void {
    this.#rows++;
    this.#sum += generated;
    this.#squares += generated * generated;
  }

  /** Tokens to reserve for an answer of `most` at most. */
  tokens(most: number): number {
    if (this.#rows < LEAST_ROWS) return most;
    const mean = this.#sum / this.#rows;
    const deviation = Math.sqrt(Math.max(0, this.#squares / this.#rows - mean * mean));
    return Math.min(most, Math.max(LEAST_TOKENS, Math.ceil(mean + DEVIATIONS * deviation)));
  }
}
