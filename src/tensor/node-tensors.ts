import type { KvLayer, Tensor, Weight } from './device.ts';
import type { Node } from './op-graph.ts';

const WEIGHTS = ['table', 'weight', 'bias', 'divisors', 'gate', 'up', 'down'] as const;
type Held = Partial<Record<(typeof WEIGHTS)[number], Weight> & { cache: KvLayer; tensor: Tensor; ids: Tensor }>;

/** Tensors of a device that a node reads or writes, weights and cache included. */
export function tensorsOf(node: Node): readonly Tensor[] {
  const { cache, tensor, ids, ...rest } = node as Held;
  const weights = WEIGHTS.flatMap((field) => rest[field]?.segments.map((segment) => segment.tensor) ?? []);
  return [...weights, ...(cache ? [cache.keys, cache.values] : []), ...(tensor ? [tensor] : []), ...(ids ? [ids] : [])];
}

/** The same node with other tensors where it loads, stores or selects. */
export function withTensor(node: Node, tensorOf: (tensor: Tensor) => Tensor): Node {
  return 'tensor' in node ? Object.freeze({ ...node, tensor: tensorOf(node.tensor) }) : node;
}
