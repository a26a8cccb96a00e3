import type { BatchRow, Tensor, Weight } from './device.ts';
import type { Node, OpGraph, Value } from './op-graph.ts';

/** Work of one run of a graph. */
export interface GraphCost {
  /** Multiplications and additions of products and attention, with the values of all positions; element-wise work is not counted. */
  readonly flops: number;
  /** Bytes of weights, cache and device tensors read or written once each; intermediate results are not counted. */
  readonly bytes: number;
}

/** `rows` are those of the batch that the graph reads; a graph without attention needs none. */
export function graphCost(graph: OpGraph, rows: readonly BatchRow[]): GraphCost {
  let flops = 0;
  let bytes = 0;
  for (const node of graph.nodes) {
    const cost = nodeCost(node, rows);
    flops += cost.flops;
    bytes += cost.bytes;
  }
  return { flops, bytes };
}

function nodeCost(node: Node, rows: readonly BatchRow[]): GraphCost {
  switch (node.op) {
    case 'load':
    case 'store':
    case 'select':
      return { flops: 0, bytes: bytesOfRows(node.tensor, node.out.rows) };
    case 'embed':
      return { flops: 0, bytes: (bytesOf(node.table) / node.table.shape[0]!) * node.out.rows };
    case 'linear':
      return { flops: 2 * sizeOf(node.out) * node.x.columns, bytes: bytesOf(node.weight) + bytesOf(node.bias) };
    case 'norm':
      return { flops: 0, bytes: bytesOf(node.weight) + bytesOf(node.bias) };
    case 'moe': {
      const { x, logits, used, gate, up, down } = node;
      const read = Math.min(1, (x.rows * used) / logits.columns); // if no two tokens share an expert
      const perRow = (used / logits.columns) * 3 * gate.shape[0]! * x.columns;
      return { flops: 2 * x.rows * perRow, bytes: read * (bytesOf(gate) + bytesOf(up) + bytesOf(down)) };
    }
    case 'rope':
      return { flops: 0, bytes: bytesOf(node.divisors) };
    case 'add':
    case 'multiply':
    case 'scale':
    case 'softcap':
    case 'byLength':
      return { flops: 0, bytes: 0 };
    case 'attention': {
      const { keys, values } = node.cache;
      const { window = Infinity } = node;
      const positions = rows.reduce((sum, { start, tokens: { length: n } }) => sum + Math.min(start + n, window + n - 1), 0);
      const pairs = rows.reduce((sum, row) => sum + seenPairs(row, window), 0);
      return { flops: 4 * pairs * node.heads * node.headDim, bytes: bytesOfRows(keys, positions) + bytesOfRows(values, positions) };
    }
    default:
      return node satisfies never;
  }
}

/** Sum over the row's tokens of the positions that each sees. */
function seenPairs({ start, tokens: { length: n } }: BatchRow, window: number): number {
  const growing = Math.min(n, Math.max(0, window - start)); // tokens that see everything before them
  const all = growing * start + (growing * (growing + 1)) / 2;
  return growing === n ? all : all + (n - growing) * window;
}

const sizeOf = ({ rows, columns }: Value): number => rows * columns;
const bytesOf = (weight: Weight | undefined): number => weight?.segments.reduce((sum, { tensor }) => sum + tensor.byteLength, 0) ?? 0;
const bytesOfRows = (tensor: Tensor, rows: number): number => (tensor.byteLength / tensor.shape[0]!) * rows;
