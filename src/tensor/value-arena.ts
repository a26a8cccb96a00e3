/** Where the intermediate results of a graph lie: those that are never needed at the same time share memory. */
import type { Node, OpGraph, Value } from './op-graph.ts';

/** Cache lines of all processors. */
const ALIGNMENT = 64;

export interface ArenaRequest {
  /** Bytes of the node's result; 0 if it lies elsewhere. */
  readonly result: number;
  /** Bytes that the node needs while it runs. */
  readonly scratch: number;
}

export interface ArenaPlan {
  /** Offsets by node. */
  readonly results: readonly number[];
  readonly scratch: readonly number[];
  readonly bytes: number;
}

interface Interval {
  readonly from: number;
  readonly to: number;
  readonly offset: number;
  readonly bytes: number;
}

/** First fit in the order of the nodes. A result lives from its node to the last one that reads it. */
export function planArena(graph: OpGraph, requests: readonly ArenaRequest[]): ArenaPlan {
  const last = lastUses(graph);
  const placed: Interval[] = [];
  let bytes = 0;
  const place = (size: number, from: number, to: number): number => {
    const rounded = Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    const living = placed.filter((other) => other.from <= to && from <= other.to).sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const other of living) {
      if (other.offset - offset >= rounded) break;
      offset = Math.max(offset, other.offset + other.bytes);
    }
    placed.push({ from, to, offset, bytes: rounded });
    bytes = Math.max(bytes, offset + rounded);
    return offset;
  };
  const results: number[] = [];
  const scratch: number[] = [];
  for (const [node, request] of requests.entries()) {
    results.push(request.result > 0 ? place(request.result, node, last[node]!) : 0);
    scratch.push(request.scratch > 0 ? place(request.scratch, node, node) : 0);
  }
  return { results, scratch, bytes };
}

/** For each node, the last one that reads its result; itself if none does. */
function lastUses(graph: OpGraph): number[] {
  const last = graph.nodes.map((_, index) => index);
  for (const [index, node] of graph.nodes.entries()) for (const value of inputsOf(node)) last[value.node] = index;
  return last;
}

/** Results that a node reads. */
function inputsOf(node: Node): readonly Value[] {
  const fields = ['x', 'a', 'b', 'factors', 'residual', 'logits', 'short', 'long', 'q', 'k', 'v'] as const;
  const values = node as Partial<Record<(typeof fields)[number], Value>>;
  return fields.flatMap((field) => values[field] ?? []);
}
