/** What a graph makes of digests: one number for each row of a value, made from everything that the row depends on. */
import { type BatchRow, PAGE_POSITIONS, type Tensor, type Weight } from '../../src/tensor/device.ts';
import type { Node, OpGraph, Value } from '../../src/tensor/op-graph.ts';
import { pagesOf } from '../../src/tensor/row-batch.ts';

/** Of rows that nothing was written to. */
export const NOTHING = 0;

const join = (a: number, b: number): number => {
  const hash = Math.imul(a ^ Math.imul(b ^ (b >>> 15), 0x2c1b3c6d), 0x01000193);
  return (hash ^ (hash >>> 13)) >>> 0 || 1;
};

export const textDigest = (text: string): number => Array.from(text, (letter) => letter.charCodeAt(0)).reduce(join, 1);

export function weightsOf(node: Node): Weight[] {
  switch (node.op) {
    case 'embed':
      return [node.table];
    case 'moe':
      return [node.gate, node.up, node.down];
    case 'rope':
      return [node.divisors];
    case 'linear':
    case 'norm':
      return [node.weight, node.bias].filter((weight) => weight !== undefined);
    default:
      return [];
  }
}

/** Values that a node of an op reads that mixes nothing but the columns of a row. */
function inputsOf(node: Exclude<Node, { op: 'load' | 'select' | 'embed' | 'attention' | 'byLength' | 'add' | 'multiply' }>): Value[] {
  const optional = node.op === 'linear' ? [node.factors, node.residual] : node.op === 'moe' ? [node.logits] : [];
  return [node.x, ...optional.filter((value) => value !== undefined)];
}

/** What tensors of a device hold. */
export interface SymbolicMemory {
  rows(tensor: Tensor): Uint32Array;
  ids(tensor: Tensor): Int32Array;
  digest(name: string): number;
}

/** What a run leaves in a tensor. */
export interface SymbolicStore {
  readonly tensor: Tensor;
  readonly digests: Uint32Array;
}

/** Runs a graph. Keys and values are written at once, as later tokens of the same run read them; the rest is written by the caller. */
export function evaluate(graph: OpGraph, rows: readonly BatchRow[], memory: SymbolicMemory): SymbolicStore[] {
  return new Evaluation(graph, rows, memory).run();
}

/** Where a token stands. */
interface Place {
  readonly row: BatchRow;
  readonly token: number;
  readonly position: number;
}

class Evaluation {
  readonly #graph: OpGraph;
  readonly #memory: SymbolicMemory;
  readonly #places: readonly Place[];
  readonly #values: Uint32Array[] = [];
  readonly #stores: SymbolicStore[] = [];

  constructor(graph: OpGraph, rows: readonly BatchRow[], memory: SymbolicMemory) {
    this.#graph = graph;
    this.#memory = memory;
    this.#places = rows.flatMap((row) => Array.from(row.tokens, (token, i) => ({ row, token, position: row.start + i })));
  }

  run(): SymbolicStore[] {
    for (const node of this.#graph.nodes) this.#values[node.out.node] = this.#evaluate(node);
    return this.#stores;
  }

  #of = (value: Value): Uint32Array => this.#values[value.node]!;

  #map(node: Pick<Node, 'out'>, digest: (row: number) => number): Uint32Array {
    const digests = new Uint32Array(node.out.rows);
    for (let row = 0; row < digests.length; row++) digests[row] = digest(row);
    return digests;
  }

  #evaluate(node: Node): Uint32Array {
    const op = weightsOf(node).reduce((digest, { name }) => join(digest, this.#memory.digest(name)), this.#memory.digest(node.op));
    switch (node.op) {
      case 'load':
        return this.#map(node, (row) => this.#present(node.tensor, row));
      case 'select': {
        const ids = this.#memory.ids(node.ids);
        return this.#map(node, (row) => this.#present(node.tensor, ids[row]!));
      }
      case 'store':
        this.#stores.push({ tensor: node.tensor, digests: this.#of(node.x) });
        return this.#of(node.x);
      case 'embed':
        return this.#map(node, (row) => join(join(op, node.offset), this.#places[row]![node.by]));
      case 'rope': {
        const x = this.#of(node.x);
        return this.#map(node, (row) => join(join(op, x[row]!), this.#places[row]!.position));
      }
      case 'byLength':
        return this.#map(node, (row) => this.#of(this.#isLong(row, node.limit) ? node.long : node.short)[row]!);
      case 'attention':
        return this.#attend(node);
      case 'add':
      case 'multiply':
        return this.#map(node, (row) => join(join(op, this.#of(node.a)[row]!), this.#of(node.b)[row]!));
      default: {
        const inputs = inputsOf(node).map((value) => this.#of(value));
        return this.#map(node, (row) => inputs.reduce((digest, input) => join(digest, input[row]!), op));
      }
    }
  }

  #present(tensor: Tensor, row: number): number {
    const digest = this.#memory.rows(tensor)[row]!;
    if (digest === NOTHING) throw new Error(`${this.#graph.name}: row ${row} of ${tensor.name} is read before it was written`);
    return digest;
  }

  #isLong(row: number, limit: number): boolean {
    const {
      row: { tokens, start, total = start + tokens.length },
    } = this.#places[row]!;
    return total > limit;
  }

  #attend({ q, k, v, cache, window = Infinity, out }: Extract<Node, { op: 'attention' }>): Uint32Array {
    const [keys, values] = [this.#memory.rows(cache.keys), this.#memory.rows(cache.values)];
    const slotOf = ({ row }: Place, position: number): number =>
      pagesOf(row, window)[Math.floor(position / PAGE_POSITIONS)]! * PAGE_POSITIONS + (position % PAGE_POSITIONS);
    for (const [i, place] of this.#places.entries()) {
      const slot = slotOf(place, place.position);
      if (slot < PAGE_POSITIONS) throw new Error(`${this.#graph.name}: position ${place.position} is written to the null page`);
      keys[slot] = this.#of(k)[i]!;
      values[slot] = this.#of(v)[i]!;
    }
    return this.#map({ out }, (i) => {
      const place = this.#places[i]!;
      let sum = 0;
      for (let position = Math.max(0, place.position + 1 - window); position <= place.position; position++) {
        const slot = slotOf(place, position);
        if (keys[slot] === NOTHING) throw new Error(`${this.#graph.name}: position ${position} is read before it was written`);
        sum = (sum + join(join(keys[slot]!, values[slot]!), position)) | 0;
      }
      return join(this.#of(q)[i]!, sum);
    });
  }
}
