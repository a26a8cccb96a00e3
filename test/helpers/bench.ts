/** What the parts of the conformance suite of devices share. */
import type { BatchNeeds, BatchRow, Device } from '../../src/tensor/device.ts';
import { GraphBuilder } from '../../src/tensor/graph.ts';
import type { Value } from '../../src/tensor/op-graph.ts';
import { download, type Scope } from './tensors.ts';

/** Allowed errors, times (1 + |value|). */
export interface ConformanceTolerance {
  /** For f32, and for weight types that the device calls exact. */
  readonly exact: number;
  /** For products with weight types that the device does not call exact. Default: `exact`. */
  readonly roundedWeights?: number;
  /** For attention to a cache in f16; the rounding of keys and values themselves is no error. Default: `exact`. */
  readonly f16Cache?: number;
  /** A ReLU makes a number of NaN, as shaders do; weights that are damaged are then noticed later or not at all. Default false. */
  readonly reluHidesNaN?: boolean;
}

/** The device is made after the tests are listed, hence the function. */
export interface Bench {
  readonly device: () => Device;
  readonly scope: Scope;
  readonly tolerance: ConformanceTolerance;
}

/** Builds a graph, runs it once and returns what it stores. */
export async function evaluate(
  { device, scope }: Bench,
  tokenCount: number,
  build: (graph: GraphBuilder) => Value,
  rows?: readonly BatchRow[],
  needs?: BatchNeeds,
) {
  const graph = new GraphBuilder('conformance', tokenCount);
  const value = build(graph);
  const out = scope.add(device().allocate('out', 'f32', [value.rows, value.columns]));
  graph.store(value, out);
  const batch = rows && scope.add(device().createBatch(rows, needs));
  await batch?.write(rows!);
  await device().run(scope.add(device().compile(graph.finish(), batch)));
  return await download(device(), out);
}

/** A row on pages that nobody else has. */
export function lonelyRow(tokens: readonly number[], start: number, pages: readonly number[]): BatchRow {
  return { tokens: Int32Array.from(tokens), start, pages };
}
