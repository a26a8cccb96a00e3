/** Results that are computed where a store would copy them. */
import type { Tensor } from './device.ts';
import { inputsOf } from './node-inputs.ts';
import type { Node, OpGraph } from './op-graph.ts';

/**
 * Products that only the store right behind them reads, by node, with the tensor. One that reads the tensor's rows while it writes them is left out; what
 * is multiplied or added behind the product is read element by element, just before that is written.
 */
export function directStores({ nodes }: OpGraph): ReadonlyMap<number, Tensor> {
  const readers = new Map<number, number>();
  for (const node of nodes) for (const { node: input } of inputsOf(node)) readers.set(input, (readers.get(input) ?? 0) + 1);
  const direct = new Map<number, Tensor>();
  for (const [index, store] of nodes.entries()) {
    const product = nodes[index - 1];
    if (store.op !== 'store' || product?.op !== 'linear' || store.x.node !== index - 1 || readers.get(index - 1) !== 1) continue;
    if (!isLoadOf(nodes[product.x.node], store.tensor)) direct.set(index - 1, store.tensor);
  }
  return direct;
}

const isLoadOf = (node: Node | undefined, tensor: Tensor): boolean => node?.op === 'load' && node.tensor === tensor;
