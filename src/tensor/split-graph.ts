/** Graphs cut around attention, for devices that leave it to another one. */
import type { Tensor } from './device.ts';
import { inputsOf, withValues } from './node-inputs.ts';
import type { Node, OpGraph, Value } from './op-graph.ts';

/** Consecutive nodes of a graph, as a graph of their own. */
export interface GraphPart {
  readonly graph: OpGraph;
  /** It is one attention and nothing else. */
  readonly attends: boolean;
  /** Results of other parts that it reads, in the numbers of the whole graph. */
  readonly imports: readonly Value[];
  /** Its results that other parts read. */
  readonly exports: readonly Value[];
}

/** Where a result of one part rests for others: for each node of the whole graph, a tensor for attention and one for all else. */
export type Crossing = (value: Value, attends: boolean) => Tensor;

/** Parts that compute the same as the graph, one after the other. A graph without attention is one part. */
export function splitAtAttention(graph: OpGraph, crossing: Crossing): GraphPart[] {
  const partOf = partNumbers(graph);
  const exported = new Map<number, Value>();
  const count = Math.max(0, ...partOf) + 1;
  const drafts = Array.from({ length: count }, (_, part) => new Draft(graph, { part, partOf, crossing, exported }));
  for (const [index, node] of graph.nodes.entries()) drafts[partOf[index]!]!.add(node);
  return drafts.filter(({ isEmpty }) => !isEmpty).map((draft) => draft.finish());
}

/** Even ones compute, odd ones attend. */
function partNumbers({ nodes }: OpGraph): number[] {
  let part = 0;
  return nodes.map(({ op }) => {
    if (op !== 'attention') return part;
    part += 2;
    return part - 1;
  });
}

interface DraftPlace {
  readonly part: number;
  /** Of every node of the whole graph. */
  readonly partOf: readonly number[];
  readonly crossing: Crossing;
  /** Results that other parts than their own read; shared by all drafts. */
  readonly exported: Map<number, Value>;
}

class Draft {
  readonly #whole: OpGraph;
  readonly #place: DraftPlace;
  readonly #nodes: Node[] = [];
  /** Results as this part has them, by node of the whole graph. */
  readonly #own = new Map<number, Value>();
  readonly #imports: Value[] = [];

  constructor(whole: OpGraph, place: DraftPlace) {
    this.#whole = whole;
    this.#place = place;
  }

  get isEmpty(): boolean {
    return this.#nodes.length === 0;
  }

  add(node: Node): void {
    for (const value of inputsOf(node)) if (!this.#own.has(value.node)) this.#import(value, node.out.node);
    const out = { ...node.out, node: this.#nodes.length };
    this.#nodes.push(withValues(node, (value) => this.#own.get(value.node)!, out));
    this.#own.set(node.out.node, out);
  }

  finish(): GraphPart {
    const { part, partOf, crossing, exported } = this.#place;
    const attends = part % 2 === 1;
    const exports = [...exported.values()].filter(({ node }) => partOf[node] === part);
    for (const value of exports) {
      const x = this.#own.get(value.node)!;
      this.#push({ op: 'store', x, tensor: crossing(value, attends), out: { ...x, node: this.#nodes.length } });
    }
    const name = attends ? `${this.#whole.name}, attention` : this.#whole.name;
    return { graph: Object.freeze({ name, nodes: Object.freeze(this.#nodes) }), attends, imports: this.#imports, exports };
  }

  /** `at`: the node that reads it. */
  #import(value: Value, at: number): void {
    const { part, crossing, exported } = this.#place;
    const source = this.#whole.nodes[value.node]!;
    const attends = part % 2 === 1;
    // What a tensor of the device still holds need not be copied.
    const isThere = source.op === 'load' && !attends && !this.#isOverwritten(source.tensor, value.node, at);
    if (!isThere) {
      exported.set(value.node, value);
      this.#imports.push(value);
    }
    const out = { ...value, node: this.#nodes.length };
    this.#push({ op: 'load', tensor: isThere ? source.tensor : crossing(value, attends), out });
    this.#own.set(value.node, out);
  }

  #isOverwritten(tensor: Tensor, from: number, to: number): boolean {
    return this.#whole.nodes.slice(from, to).some((node) => node.op === 'store' && node.tensor === tensor);
  }

  #push(node: Node): void {
    this.#nodes.push(Object.freeze(node));
  }
}
