import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { formatBytes } from '../util/units.ts';

const NAMES = {
  weights: 'weights',
  ring: 'weights in passing',
  staging: 'buffers of reads',
  kv: 'KV cache',
  hidden: 'hidden states',
  logits: 'logits',
  scratch: 'intermediate results',
  program: 'the program itself',
} as const;

/** What will be used, said before it is. Such as `memory: up to 243 MB (KV cache 202 MB, weights 22 MB, ...) beside the program itself`. */
export function planText(plan: ExecutionPlan): string {
  const { bytes, weights } = plan;
  const items = (Object.keys(NAMES) as (keyof typeof NAMES)[])
    .filter((name) => bytes[name] > 0)
    .toSorted((a, b) => bytes[b] - bytes[a])
    .map((name) => `${NAMES[name]} ${formatBytes(bytes[name])}`);
  const beside = bytes.program > 0 ? '' : ' beside the program itself';
  const memory = `memory: up to ${formatBytes(bytes.total)} (${items.join(', ')})${beside}`;
  const kept = Math.round(weights.share * 100);
  const lines = [
    memory,
    weights.streamedBytes > 0 &&
      `weights: ${kept} % stay in memory, ${formatBytes(weights.streamedBytes)} are read from disk for every sweep`,
    plan.attnSparsity < 1 && `attention: answers use the values of ${percentText(plan.attnSparsity)} of the positions before them`,
  ];
  return lines.filter((line) => line !== false).join('\n');
}

/** Such as `12.5 %`. */
export const percentText = (share: number): string => `${Number((100 * share).toPrecision(3))} %`;
