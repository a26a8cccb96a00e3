/** Where the intermediate results of a graph lie: those that are never needed at the same time share memory. */
import { inputsOf } from './node-inputs.ts';
import type { Node, OpGraph } from './op-graph.ts';

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
  to: number;
  readonly offset: number;
  readonly bytes: number;
}

/**
 * First fit in the order of the nodes. A result lives from its node to the last one that reads it; what is computed element by element takes the place of
 * what it is computed from, if nothing else needs that.
 */
export function planArena(graph: OpGraph, requests: readonly ArenaRequest[]): ArenaPlan {
  const last = lastUses(graph);
  const placed: Interval[] = [];
  let bytes = 0;
  const byNode = new Map<number, Interval>();
  const place = (size: number, from: number, to: number): Interval => {
    const rounded = Math.ceil(size / ALIGNMENT) * ALIGNMENT;
    const living = placed.filter((other) => other.from <= to && from <= other.to).sort((a, b) => a.offset - b.offset);
    let offset = 0;
    for (const other of living) {
      if (other.offset - offset >= rounded) break;
      offset = Math.max(offset, other.offset + other.bytes);
    }
    const interval = { from, to, offset, bytes: rounded };
    placed.push(interval);
    bytes = Math.max(bytes, offset + rounded);
    return interval;
  };
  const placeResult = (node: number, size: number): number => {
    const source = elementwiseSource(graph.nodes[node]!);
    const taken = source !== undefined && last[source] === node && requests[source]!.result === size ? byNode.get(source) : undefined;
    const interval = taken ?? place(size, node, last[node]!);
    interval.to = last[node]!;
    byNode.set(node, interval);
    return interval.offset;
  };
  const results: number[] = [];
  const scratch: number[] = [];
  for (const [node, request] of requests.entries()) {
    results.push(request.result > 0 ? placeResult(node, request.result) : 0);
    scratch.push(request.scratch > 0 ? place(request.scratch, node, node).offset : 0);
  }
  return { results, scratch, bytes };
}

/** The node whose result has an element for each of this one's, read before that is written. */
function elementwiseSource(node: Node): number | undefined {
  if (node.op === 'scale' || node.op === 'softcap') return node.x.node;
  return node.op === 'add' || node.op === 'multiply' ? node.a.node : undefined;
}

/** For each node, the last one that reads its result; itself if none does. */
function lastUses(graph: OpGraph): number[] {
  const last = graph.nodes.map((_, index) => index);
  for (const [index, node] of graph.nodes.entries()) for (const value of inputsOf(node)) last[value.node] = index;
  return last;
}
