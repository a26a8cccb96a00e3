/** What plans call the memory they use. */
export const PLAN_ITEMS = {
  weights: 'weights',
  ring: 'weights in passing',
  staging: 'buffers of reads',
  kv: 'KV cache',
  staged: 'cache in passing',
  hidden: 'hidden states',
  logits: 'logits',
  scratch: 'intermediate results',
  program: 'the program itself',
  results: 'log-probabilities',
} as const;

/** Bytes of all items together. */
export const totalOf = (items: Readonly<Record<string, number>>): number => Object.values(items).reduce((a, b) => a + b, 0);
