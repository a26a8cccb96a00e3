/** What whole models are measured with: a prompt, and rows that decode together. */
export const PROMPT_TOKENS = 512;
export const ROWS = 64;
/** Tokens of each row that are measured. */
export const DECODED = 16;

/** Token ids that look random, of any vocabulary. */
export const promptOf = (length: number, seed: number): number[] =>
  Array.from({ length }, (_, i) => 4 + ((i * 7919 + seed * 104_729) % 2000));

/** What a process of its own prints as JSON. */
export interface Rates {
  readonly threads: number;
  /** Tokens a second. */
  readonly prefill: number;
  readonly decode: number;
  /** Processor time over wall time and threads, while each of them ran: below 1 where other programs took the processors. */
  readonly busy: { readonly prefill: number; readonly decode: number };
}

/** Seconds from now to the call, and how busy all `threads` of this process were. */
export function stopwatch(threads: number): () => { readonly seconds: number; readonly busy: number } {
  const used = process.cpuUsage();
  const began = performance.now();
  return () => {
    const seconds = (performance.now() - began) / 1000;
    const { user, system } = process.cpuUsage(used);
    return { seconds, busy: (user + system) / 1e6 / seconds / threads };
  };
}
