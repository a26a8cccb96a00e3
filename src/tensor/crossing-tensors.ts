/** Results that one device computes and another one reads: both have memory for them, shared by all graphs that take turns. */
import { internalError } from '../util/errors.ts';
import type { Device, Tensor } from './device.ts';
import type { Value } from './op-graph.ts';

export type Side = 'device' | 'attending';

/** Memory for the results of one graph. */
export interface GraphCrossings {
  /** The same for every graph that has as many results of this width before it. */
  tensor(value: Value, side: Side): Tensor;
}

export class CrossingTensors implements Disposable {
  readonly #devices: Readonly<Record<Side, Device>>;
  readonly #rows: number;
  readonly #tensors = new Map<string, Tensor>();

  /** `rows`: the most that a result has. */
  constructor(devices: Readonly<Record<Side, Device>>, rows: number) {
    this.#devices = devices;
    this.#rows = rows;
  }

  forGraph(): GraphCrossings {
    /** For each node, which of the results of its width it has. */
    const numbers = new Map<number, number>();
    const ofWidth = new Map<number, number>();
    return {
      tensor: ({ node, rows, columns }, side) => {
        if (rows > this.#rows) throw internalError(`a result of ${rows} rows leaves its device, ${this.#rows} expected at most`);
        const number = numbers.get(node) ?? ofWidth.get(columns) ?? 0;
        if (!numbers.has(node)) ofWidth.set(columns, number + 1);
        numbers.set(node, number);
        return this.#allocated(side, columns, number);
      },
    };
  }

  #allocated(side: Side, columns: number, number: number): Tensor {
    const name = `${side === 'device' ? 'beside' : 'for'} attention, ${columns} columns, ${number}`;
    const tensor = this.#tensors.get(name) ?? this.#devices[side].allocate(name, 'f32', [this.#rows, columns]);
    this.#tensors.set(name, tensor);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#tensors.values()) tensor[Symbol.dispose]();
    this.#tensors.clear();
  }
}
