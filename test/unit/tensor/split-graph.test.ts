import { describe, expect, it } from 'vitest';
import type { Tensor } from '../../../src/tensor/device.ts';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import { inputsOf } from '../../../src/tensor/node-inputs.ts';
import type { OpGraph, Value } from '../../../src/tensor/op-graph.ts';
import { splitAtAttention } from '../../../src/tensor/split-graph.ts';

const device = createNullDevice({ flopsPerSecond: 1, bytesPerSecond: 1 });
const tensor = (name: string, columns = 16): Tensor => device.allocate(name, 'f32', [4, columns]);
const hidden = tensor('hidden');
const cache = { keys: device.allocate('k', 'f32', [64, 16]), values: device.allocate('v', 'f32', [64, 16]) };
const heads = { heads: 2, kvHeads: 2, headDim: 8, scale: 1 };

/** The parts, and what crosses between them as `node side`. */
function split(build: (graph: GraphBuilder) => void) {
  const builder = new GraphBuilder('layer', 4);
  build(builder);
  const graph = builder.finish();
  const crossings: string[] = [];
  const parts = splitAtAttention(graph, ({ node, columns }, attends) => {
    crossings.push(`${graph.nodes[node]!.op} ${attends ? 'attends' : 'computes'}`);
    return tensor(`${node} ${attends}`, columns);
  });
  return { graph, parts, crossings };
}

const ops = ({ nodes }: OpGraph): string => nodes.map(({ op }) => op).join(' ');
const opsOf = (graph: OpGraph, values: readonly Value[]): string => values.map(({ node }) => graph.nodes[node]!.op).join(' ');

describe('splitAtAttention', () => {
  it('leaves a graph without attention as it is', () => {
    const { graph, parts } = split((g) => g.store(g.scale(g.load(hidden), 2), hidden));
    expect(parts).toEqual([{ graph, attends: false, imports: [], exports: [] }]);
  });

  it('cuts before and behind attention, and loads again what a tensor still holds', () => {
    const { graph, parts, crossings } = split((g) => {
      const x = g.load(hidden);
      const normed = g.norm(x, { kind: 'rms', epsilon: 1e-5 });
      const attended = g.attention(g.scale(normed, 1), g.scale(normed, 2), g.scale(normed, 3), cache, heads);
      g.store(g.add(attended, x), hidden);
    });
    expect(parts.map((part) => ops(part.graph))).toEqual([
      'load norm scale scale scale store store store',
      'load load load attention store',
      'load load add store',
    ]);
    expect(parts.map(({ attends }) => attends)).toEqual([false, true, false]);
    expect(parts.map((part) => `${opsOf(graph, part.imports)} > ${opsOf(graph, part.exports)}`)).toEqual([
      ' > scale scale scale',
      'scale scale scale > attention',
      'attention > ',
    ]);
    expect(crossings.filter((each) => each.startsWith('load'))).toEqual([]);
  });

  it('numbers the values of each part anew', () => {
    const { parts } = split((g) => {
      const x = g.load(hidden);
      g.store(g.add(g.attention(x, x, x, cache, heads), x), hidden);
    });
    for (const { graph } of parts)
      for (const [index, node] of graph.nodes.entries()) {
        expect(node.out.node).toBe(index);
        expect(Math.max(-1, ...inputsOf(node).map((value) => value.node))).toBeLessThan(index);
      }
  });

  it('carries over what is computed before attention and used behind it, and what was overwritten meanwhile', () => {
    const { graph, parts } = split((g) => {
      const x = g.load(hidden);
      const doubled = g.scale(x, 2);
      g.store(doubled, hidden);
      g.store(g.add(g.add(g.attention(x, doubled, x, cache, heads), doubled), x), hidden);
    });
    expect(opsOf(graph, parts[0]!.exports).split(' ').toSorted()).toEqual(['load', 'scale']);
    expect(opsOf(graph, parts[2]!.imports)).toBe('attention scale load');
  });
});
