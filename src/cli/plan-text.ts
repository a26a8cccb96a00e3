import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { formatBytes } from '../util/units.ts';

/** What will be used, said before it is. Such as `memory: up to 243 MB (KV cache 202 MB, weights 22 MB, ...) beside the program itself`. */
export function planText({ bytes }: ExecutionPlan): string {
  const names = { weights: 'weights', kv: 'KV cache', hidden: 'hidden states', logits: 'logits', scratch: 'intermediate results' } as const;
  const items = (Object.keys(names) as (keyof typeof names)[])
    .toSorted((a, b) => bytes[b] - bytes[a])
    .map((name) => `${names[name]} ${formatBytes(bytes[name])}`);
  return `memory: up to ${formatBytes(bytes.total)} (${items.join(', ')}) beside the program itself`;
}
