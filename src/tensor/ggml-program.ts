import type { Context, Graph } from '../native/ggml.ts';
import type { Program } from './device.ts';
import type { GgmlBatch } from './ggml-batch.ts';
import type { OpGraph } from './op-graph.ts';

/** A lowered graph; lowered again when the memory of intermediate results has moved. */
export class GgmlProgram implements Program {
  readonly name: string;
  readonly source: OpGraph;
  readonly batch: GgmlBatch | undefined;
  readonly #free: (context: Context) => void;
  lowered: { readonly context: Context; readonly graph: Graph; readonly generation: number } | undefined;
  disposed = false;

  constructor(source: OpGraph, batch: GgmlBatch | undefined, free: (context: Context) => void) {
    this.name = source.name;
    this.source = source;
    this.batch = batch;
    this.#free = free;
  }

  /** Frees the native graph; running the program lowers it again. */
  drop(): void {
    if (this.lowered) this.#free(this.lowered.context);
    this.lowered = undefined;
  }

  [Symbol.dispose](): void {
    this.drop();
    this.disposed = true;
  }
}
