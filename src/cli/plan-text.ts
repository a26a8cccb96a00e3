import type { ExecutionPlan } from '../engine/execution-plan.ts';
import { PLAN_ITEMS } from '../engine/plan-items.ts';
import { formatBytes } from '../util/units.ts';

type Items = Readonly<Partial<Record<keyof typeof PLAN_ITEMS, number>>> & { readonly total: number };

/**
 * What will be used, said before it is. Such as `memory: up to 243 MB (KV cache 202 MB, weights 22 MB, ...) beside the program itself`; with a GPU, a line
 * for its memory and one for RAM.
 */
export function planText({ bytes, weights, host, kvDisk, attnSparsity }: ExecutionPlan): string {
  const lines = host ? [`GPU memory: ${itemsText(bytes)}`, `RAM: ${itemsText(host.bytes)}${besideText(host.bytes)}`] : [];
  if (!host) lines.push(`memory: ${itemsText(bytes)}${besideText(bytes)}`);
  const passing = [
    ...(host && host.uploadedBytes > 0 ? [`${formatBytes(host.uploadedBytes)} are copied from RAM`] : []),
    ...(weights.streamedBytes > 0 ? [`${formatBytes(weights.streamedBytes)} are read from disk`] : []),
  ];
  if (kvDisk) lines.push(`disk: up to ${formatBytes(kvDisk.bytes)} for the KV cache`);
  if (attnSparsity < 1) lines.push(`attention: answers use the values of ${percentText(attnSparsity)} of the positions before them`);
  if (passing.length === 0) return lines.join('\n');
  const staying = [
    `${percentOf(weights.share)} % stay ${host ? 'on the GPU' : 'in memory'}`,
    ...(host ? [`${percentOf(host.share)} % in RAM`] : []),
  ];
  return [...lines, `weights: ${[...staying, passing.join(' and ')].join(', ')} for every sweep`].join('\n');
}

const percentOf = (share: number): number => Math.round(share * 100);

const besideText = ({ program }: { readonly program: number }): string => (program > 0 ? '' : ' beside the program itself');

function itemsText(bytes: Items): string {
  const items = (Object.keys(PLAN_ITEMS) as (keyof typeof PLAN_ITEMS)[])
    .map((name) => ({ name, size: bytes[name] ?? 0 }))
    .filter(({ size }) => size > 0)
    .toSorted((a, b) => b.size - a.size)
    .map(({ name, size }) => `${PLAN_ITEMS[name]} ${formatBytes(size)}`);
  return `up to ${formatBytes(bytes.total)}${items.length > 0 ? ` (${items.join(', ')})` : ''}`;
}

/** Such as `12.5 %`. */
export const percentText = (share: number): string => `${Number((100 * share).toPrecision(3))} %`;
