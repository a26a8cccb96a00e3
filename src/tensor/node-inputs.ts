import type { Node, Value } from './op-graph.ts';

const FIELDS = ['x', 'a', 'b', 'factors', 'residual', 'logits', 'short', 'long', 'q', 'k', 'v'] as const;
type Inputs = Partial<Record<(typeof FIELDS)[number], Value>>;

/** Results that a node reads. */
export function inputsOf(node: Node): readonly Value[] {
  const values = node as Inputs;
  return FIELDS.flatMap((field) => values[field] ?? []);
}

/** The same node in another graph. */
export function withValues(node: Node, inputOf: (value: Value) => Value, out: Value): Node {
  const values = node as Inputs;
  const inputs: Inputs = Object.fromEntries(FIELDS.flatMap((field) => (values[field] ? [[field, inputOf(values[field])]] : [])));
  return Object.freeze({ ...node, ...inputs, out } as Node);
}
