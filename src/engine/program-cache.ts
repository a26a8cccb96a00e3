import type { Batch, BatchNeeds, BatchRow, Device, Program, Tensor } from '../tensor/device.ts';

/** Shapes of a micro-batch, and head sizes, whose programs are kept. One shape of a 96-layer model takes about 15 MB of descriptions. */
const MAX_SHAPES_PER_BATCH = 24;

/** Programs that were compiled for one shape, by name. */
class ProgramSet implements Disposable {
  readonly #programs = new Map<string, Program>();

  program(name: string, compile: () => Program): Program {
    const known = this.#programs.get(name);
    if (known) return known;
    const program = compile();
    this.#programs.set(name, program);
    return program;
  }

  [Symbol.dispose](): void {
    for (const program of this.#programs.values()) program[Symbol.dispose]();
    this.#programs.clear();
  }
}

/** A micro-batch's inputs and the programs of the layers that read them. */
export class ShapePrograms extends ProgramSet {
  readonly batch: Batch;

  constructor(batch: Batch) {
    super();
    this.batch = batch;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.batch[Symbol.dispose]();
  }
}

/** The programs of the head for a number of outputs. */
export class HeadPrograms extends ProgramSet {
  /** i32 [outputs]: rows of the hidden state. */
  readonly ids: Tensor;

  constructor(ids: Tensor) {
    super();
    this.ids = ids;
  }

  override [Symbol.dispose](): void {
    super[Symbol.dispose]();
    this.ids[Symbol.dispose]();
  }
}

/**
 * Graphs are built once per shape and reused across sweeps. A micro-batch has its own hidden state, and two micro-batches of one sweep
 * may have the same shape, so the index of the micro-batch is part of the key. Of the shapes used least recently, programs are freed.
 */
export class ProgramCache implements Disposable {
  readonly #device: Device;
  readonly #headLayer: number;
  readonly #limit: number;
  readonly #needs: BatchNeeds | undefined;
  readonly #shapes = new Map<string, ShapePrograms>();
  readonly #heads = new Map<string, HeadPrograms>();

  /** `needs` are those of the model's layers. */
  constructor(device: Device, headLayer: number, microBatches: number, needs?: BatchNeeds) {
    this.#device = device;
    this.#headLayer = headLayer;
    this.#needs = needs;
    this.#limit = MAX_SHAPES_PER_BATCH * microBatches;
  }

  forBatch(microBatch: number, rows: readonly BatchRow[]): ShapePrograms {
    const key = `${microBatch} | ${this.#device.batchKey(rows, this.#needs)}`;
    return recent(this.#shapes, this.#limit, key, () => new ShapePrograms(this.#device.createBatch(rows, { ...this.#needs, microBatch })));
  }

  forHead(microBatch: number, outputs: number): HeadPrograms {
    return recent(this.#heads, this.#limit, `${microBatch} | ${outputs}`, () => {
      return new HeadPrograms(this.#device.allocate('outputs', 'i32', [outputs], this.#headLayer));
    });
  }

  [Symbol.dispose](): void {
    for (const entry of [...this.#shapes.values(), ...this.#heads.values()]) entry[Symbol.dispose]();
    this.#shapes.clear();
    this.#heads.clear();
  }
}

/** Gets or makes an entry and makes it the most recent one. A Map keeps the order of insertion. */
function recent<T extends Disposable>(entries: Map<string, T>, limit: number, key: string, make: () => T): T {
  const entry = entries.get(key) ?? make();
  entries.delete(key);
  entries.set(key, entry);
  if (entries.size > limit) {
    const [oldest, value] = entries.entries().next().value!;
    entries.delete(oldest);
    value[Symbol.dispose]();
  }
  return entry;
}
