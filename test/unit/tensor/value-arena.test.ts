import { describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';
import { planArena } from '../../../src/tensor/value-arena.ts';

const device = createNullDevice({ flopsPerSecond: 1, bytesPerSecond: 1 });
const weight = (rows: number, columns: number) => {
  const tensor = device.allocate('w', 'f32', [rows, columns]);
  return { name: 'w', shape: [rows, columns], segments: [{ from: 0, to: rows, layout: 'gguf', home: 'cpu', tensor } as const] };
};
const hidden = device.allocate('x', 'f32', [4, 16]);

/** What `build` makes of a loaded [4, 16], planned with 4 bytes a number. */
function plan(build: (graph: GraphBuilder) => void) {
  const builder = new GraphBuilder('test', 4);
  build(builder);
  const graph = builder.finish();
  const requests = graph.nodes.map((node) => ({
    result: node.op === 'load' || node.op === 'store' ? 0 : 4 * node.out.rows * node.out.columns,
    scratch: 0,
  }));
  return planArena(graph, requests);
}

describe('planArena', () => {
  it('shares memory of results that are not needed at the same time', () => {
    const { results, bytes } = plan((graph) => {
      const a = graph.linear(graph.load(hidden), weight(16, 16));
      const b = graph.linear(a, weight(16, 16));
      graph.store(graph.linear(b, weight(16, 16)), hidden);
    });
    expect(results.slice(1, 4)).toEqual([0, 256, 0]);
    expect(bytes).toBe(512);
  });

  it('computes element by element in place, as the softcap of logits', () => {
    const { results, bytes } = plan((graph) => {
      const logits = graph.linear(graph.load(hidden), weight(64, 16));
      graph.store(graph.softcap(logits, 30), device.allocate('logits', 'f32', [4, 64]));
    });
    expect([results[1], results[2], bytes]).toEqual([0, 0, 1024]);
  });

  it('does not where what it is computed from is needed later, or lies elsewhere', () => {
    const later = plan((graph) => {
      const a = graph.linear(graph.load(hidden), weight(16, 16));
      const b = graph.scale(a, 2);
      graph.store(graph.add(b, a), hidden);
    });
    expect(later.results[2]).not.toBe(later.results[1]);
    // The sum takes the place of its first operand.
    expect([later.results[3], later.bytes]).toEqual([later.results[2], 512]);
    const loaded = plan((graph) => graph.store(graph.scale(graph.load(hidden), 2), hidden));
    expect(loaded.bytes).toBe(256);
  });

  it('keeps what took a place as long as it is needed', () => {
    const { results } = plan((graph) => {
      const a = graph.scale(graph.linear(graph.load(hidden), weight(16, 16)), 2);
      const b = graph.linear(a, weight(16, 16));
      graph.store(graph.add(b, a), hidden);
    });
    expect(results[3]).not.toBe(results[2]);
  });
});
