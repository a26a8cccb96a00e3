/**
 * A device that computes with one number for each row of a value: a digest of everything that the row was made from. Results are equal where all inputs were,
 * and whatever was not there yet, or not there any more, is found out when it is read.
 */
import { type Arena, type Device, type Program, type Tensor, type Weight } from '../../src/tensor/device.ts';
import { createNullDevice, type NullDevice, type NullDeviceOptions } from '../../src/tensor/null-device.ts';
import type { OpGraph } from '../../src/tensor/op-graph.ts';
import type { RowBatch } from '../../src/tensor/row-batch.ts';

import type { SimulatedClock } from '../../src/util/simulated-clock.ts';
import type { WeightSource } from '../../src/weights/weight-source.ts';
import { evaluate, NOTHING, textDigest, weightsOf } from './symbolic-graph.ts';

/** A piece of a weight on its way from the disk. */
export interface ReadEvent {
  readonly name: string;
  /** Element of the weight. */
  readonly first: number;
  readonly bytes: number;
  readonly begin: number;
  end: number;
  /** Of the arena in which it ended up. */
  arena: string;
}

/** One run of a program. */
export interface ComputeEvent {
  readonly program: string;
  readonly tokens: number;
  readonly begin: number;
  readonly seconds: number;
  end: number;
}

export interface SymbolicDevice extends Device {
  /** In the order in which they began. */
  readonly reads: readonly ReadEvent[];
  readonly computes: readonly ComputeEvent[];
  /** Most bytes at one time, by the name of what they were allocated for, without its number. */
  readonly peaks: ReadonlyMap<string, number>;
  /** The same weights, known again wherever their pieces are written. */
  watch(source: WeightSource): WeightSource;
}

interface Inputs {
  readonly graph: OpGraph;
  readonly batch: RowBatch | undefined;
}

/** Marks a piece that was read, followed by its number; as a float it is no number, so no weight begins with it. */
const STAMP = 0x7fc0dead;
const EMBED = /^embed/;

/** With a clock, runs take their time. */
export function makeSymbolicDevice(options: NullDeviceOptions & { readonly clock?: SimulatedClock }): SymbolicDevice {
  const inner = createNullDevice(options);
  return new Symbols(inner, () => options.clock?.now ?? 0).device;
}

class Symbols {
  readonly device: SymbolicDevice;
  readonly #inner: NullDevice;
  readonly #now: () => number;
  readonly #reads: ReadEvent[] = [];
  readonly #computes: ComputeEvent[] = [];
  readonly #peaks = new Map<string, number>();
  readonly #used = new Map<string, number>();
  readonly #arenas = new Map<Tensor, string>();
  /** Digests of the rows of tensors that are no weights. */
  readonly #rows = new Map<Tensor, Uint32Array>();
  readonly #ids = new Map<Tensor, Int32Array>();
  /** Pieces by their byte offset in the tensor; a new map for every reading. */
  readonly #pieces = new Map<Tensor, Map<number, { readonly bytes: number; readonly read: ReadEvent | undefined }>>();
  readonly #programs = new Map<Program, Inputs>();
  readonly #digests = new Map<string, number>();

  constructor(inner: NullDevice, now: () => number) {
    this.#inner = inner;
    this.#now = now;
    this.device = {
      name: 'symbols',
      tier: inner.tier,
      capabilities: inner.capabilities,
      reads: this.#reads,
      computes: this.#computes,
      peaks: this.#peaks,
      watch: (source) => this.#watch(source),
      memory: () => inner.memory(),
      allocate: (name, dtype, shape) => this.#metered(name, inner.allocate(name, dtype, shape)),
      reserve: (name, byteLength) => this.#reserve(name, byteLength),
      renew: (tensor) => {
        inner.renew!(tensor);
        this.#pieces.set(tensor, new Map());
      },
      write: (tensor, offset, bytes) => this.#write(tensor, offset, bytes),
      read: (tensor, offset, target) => this.#read(tensor, offset, target),
      copy: async (source, sourceOffset, target, targetOffset, byteLength) => {
        await inner.copy(source, sourceOffset, target, targetOffset, byteLength);
        const [from, to, count] = [sourceOffset, targetOffset, byteLength].map((bytes) => bytes / rowBytes(source)) as [
          number,
          number,
          number,
        ];
        this.#rowsOf(target).set(this.#rowsOf(source).subarray(from, from + count), to);
      },
      batchKey: (rows) => inner.batchKey(rows),
      createBatch: (rows) => inner.createBatch(rows),
      compile: (graph, batch) => {
        const program = inner.compile(graph, batch);
        this.#programs.set(program, { graph, batch: batch as RowBatch | undefined });
        return program;
      },
      run: (program) => this.#run(program),
      [Symbol.asyncDispose]: () => inner[Symbol.asyncDispose](),
    };
  }

  /** Counts bytes under a name without its number until they are freed. */
  #metered<T extends Disposable & { readonly byteLength: number }>(name: string, memory: T): T {
    const item = name.replace(/ \d+$/, '');
    const count = (bytes: number): void => {
      this.#used.set(item, (this.#used.get(item) ?? 0) + bytes);
      this.#peaks.set(item, Math.max(this.#peaks.get(item) ?? 0, this.#used.get(item)!));
    };
    count(memory.byteLength);
    const free = memory[Symbol.dispose].bind(memory);
    let open = true;
    const dispose = (): void => {
      if (open) count(-memory.byteLength);
      open = false;
      free();
    };
    return Object.defineProperty(memory, Symbol.dispose, { value: dispose });
  }

  #reserve(name: string, byteLength: number): Arena {
    const arena = this.#metered(name, this.#inner.reserve!(name, byteLength));
    const place = arena.place.bind(arena);
    const placed: Arena['place'] = (...where) => {
      const tensor = place(...where);
      this.#arenas.set(tensor, name);
      return tensor;
    };
    return Object.defineProperty(arena, 'place', { value: placed });
  }

  #watch(source: WeightSource): WeightSource {
    return {
      find: (spec, layer) => {
        const weight = source.find(spec, layer);
        const read = async (first: number, target: Uint8Array): Promise<void> => {
          const view = new DataView(target.buffer, target.byteOffset);
          view.setUint32(0, NOTHING); // what an earlier read left here is gone
          const event: ReadEvent = { name: spec.name, first, bytes: target.byteLength, begin: this.#now(), end: Infinity, arena: '' };
          const number = this.#reads.push(event) - 1;
          await weight.read(first, target);
          event.end = this.#now();
          view.setUint32(0, STAMP);
          view.setUint32(4, number);
        };
        return { dtype: weight.dtype, read };
      },
    };
  }

  async #write(tensor: Tensor, offset: number, bytes: Uint8Array): Promise<void> {
    await this.#inner.write(tensor, offset, bytes);
    if (tensor.dtype === 'i32') {
      this.#ids.set(tensor, new Int32Array(bytes.slice().buffer));
      return;
    }
    const arena = this.#arenas.get(tensor);
    if (arena === undefined) {
      const from = offset / rowBytes(tensor);
      this.#rowsOf(tensor).fill(NOTHING, from, from + bytes.byteLength / rowBytes(tensor)); // a page that is cleared
      return;
    }
    const view = new DataView(bytes.buffer, bytes.byteOffset);
    const read = view.getUint32(0) === STAMP ? this.#reads[view.getUint32(4)]! : undefined;
    if (read) read.arena = arena;
    const pieces = this.#pieces.get(tensor) ?? new Map<number, { bytes: number; read: ReadEvent | undefined }>();
    this.#pieces.set(tensor, pieces.set(offset, { bytes: bytes.byteLength, read }));
  }

  async #read(tensor: Tensor, offset: number, target: Uint8Array): Promise<void> {
    await this.#inner.read(tensor, offset, target);
    const columns = tensor.shape[1]!;
    const floats = new Float32Array(target.buffer, target.byteOffset, target.byteLength / 4);
    const rows = this.#rowsOf(tensor);
    for (let row = 0; row < floats.length / columns; row++) floats[row * columns + (rows[row]! % columns)] = 1;
  }

  #rowsOf(tensor: Tensor): Uint32Array {
    const known = this.#rows.get(tensor) ?? new Uint32Array(tensor.shape[0]!);
    this.#rows.set(tensor, known);
    return known;
  }

  async #run(program: Program): Promise<void> {
    const { graph, batch } = this.#programs.get(program)!;
    const weights = graph.nodes.flatMap(weightsOf);
    const before = weights.map((weight) => this.#checkWeight(weight));
    const stores = evaluate(graph, batch?.rows() ?? [], {
      rows: (tensor) => this.#rowsOf(tensor),
      ids: (tensor) => this.#ids.get(tensor)!,
      digest: (name) => this.#digest(name),
    });
    const begin = this.#now();
    const running = this.#inner.run(program);
    const event: ComputeEvent = {
      program: graph.name,
      tokens: EMBED.test(graph.name) ? batch!.tokenCount : 0,
      begin,
      seconds: this.#inner.steps.at(-1)!.seconds,
      end: Infinity,
    };
    this.#computes.push(event);
    await running;
    event.end = this.#now();
    for (const [i, weight] of weights.entries())
      if (this.#checkWeight(weight).some((pieces, n) => pieces !== before[i]![n]))
        throw new Error(`${weight.name} is overwritten while ${graph.name} reads it`);
    for (const { tensor, digests } of stores) this.#rowsOf(tensor).set(digests);
  }

  #digest(name: string): number {
    const known = this.#digests.get(name) ?? textDigest(name);
    this.#digests.set(name, known);
    return known;
  }

  /** Throws unless all of the weight's rows are there. @returns what was read, by segment */
  #checkWeight({ name, shape, segments }: Weight): unknown[] {
    const columns = shape.slice(1).reduce((product, n) => product * n, 1);
    let next = 0;
    const found = segments.map(({ from, to, tensor }) => {
      if (from !== next) throw new Error(`${name}: rows ${next} to ${from} are missing`);
      next = to;
      const pieces = this.#pieces.get(tensor);
      const present = [...(pieces?.entries() ?? [])].reduce((sum, [offset, { bytes, read }]) => {
        const first = from * columns + offset / 4;
        if (read && (read.name !== name || read.first !== first))
          throw new Error(`${name}: element ${read.first} of ${read.name} where element ${first} belongs`);
        return sum + bytes;
      }, 0);
      if (present !== tensor.byteLength)
        throw new Error(`${name}: ${present} of ${tensor.byteLength} bytes of rows ${from} to ${to} are there`);
      return pieces;
    });
    if (next !== (shape[0] ?? 1)) throw new Error(`${name}: rows from ${next} on are missing`);
    return found;
  }
}

const rowBytes = ({ byteLength, shape }: Tensor): number => byteLength / shape[0]!;
