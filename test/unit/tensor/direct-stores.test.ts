import { describe, expect, it } from 'vitest';
import { directStores } from '../../../src/tensor/direct-stores.ts';
import { GraphBuilder } from '../../../src/tensor/graph.ts';
import { createNullDevice } from '../../../src/tensor/null-device.ts';

const device = createNullDevice({ flopsPerSecond: 1, bytesPerSecond: 1 });
const tensor = device.allocate('w', 'f32', [16, 16]);
const square = { name: 'w', shape: [16, 16], segments: [{ from: 0, to: 16, layout: 'gguf', home: 'cpu', tensor } as const] };
const hidden = device.allocate('x', 'f32', [4, 16]);
const other = device.allocate('y', 'f32', [4, 16]);

function directOf(build: (graph: GraphBuilder) => void) {
  const builder = new GraphBuilder('test', 4);
  build(builder);
  return [...directStores(builder.finish())];
}

describe('directStores', () => {
  it('finds a product that only the store behind it reads', () => {
    expect(directOf((graph) => graph.store(graph.linear(graph.load(hidden), square), other))).toEqual([[1, other]]);
  });

  it('takes what is added from the same memory, as the hidden state behind a layer', () => {
    const found = directOf((graph) => {
      const x = graph.load(hidden);
      graph.store(graph.linear(graph.linear(x, square), square, { residual: x }), hidden);
    });
    expect(found).toEqual([[2, hidden]]);
  });

  it('leaves out a product of the rows that it would write over', () => {
    expect(directOf((graph) => graph.store(graph.linear(graph.load(hidden), square), hidden))).toEqual([]);
  });

  it('leaves out what others read, what is stored later, and what is no product', () => {
    expect(
      directOf((graph) => {
        const y = graph.linear(graph.load(hidden), square);
        graph.store(y, other);
        graph.store(graph.scale(y, 2), hidden);
      }),
    ).toEqual([]);
    expect(
      directOf((graph) => {
        const y = graph.linear(graph.load(hidden), square);
        graph.store(graph.scale(graph.load(other), 2), hidden);
        graph.store(y, other);
      }),
    ).toEqual([]);
  });
});
