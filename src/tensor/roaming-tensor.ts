import { internalError } from '../util/errors.ts';
import type { Device, Tensor } from './device.ts';
import type { DType } from './dtype.ts';

/** A tensor that several devices have room for. One of them has what was written last. */
export class RoamingTensor implements Tensor {
  readonly name: string;
  readonly dtype: DType;
  readonly shape: readonly number[];
  readonly byteLength: number;
  /** The device that has the contents. */
  holder: Device;
  /** Bytes of them, from the start. */
  heldBytes = 0;
  readonly #places: ReadonlyMap<Device, Tensor>;

  /** @throws {MemoryError} */
  constructor(devices: readonly Device[], name: string, dtype: DType, shape: readonly number[]) {
    const places = new Map<Device, Tensor>();
    try {
      for (const device of devices) places.set(device, device.allocate(name, dtype, shape));
    } catch (cause) {
      for (const tensor of places.values()) tensor[Symbol.dispose]();
      throw cause;
    }
    this.name = name;
    this.dtype = dtype;
    this.shape = shape;
    this.byteLength = places.get(devices[0]!)!.byteLength;
    this.holder = devices[0]!;
    this.#places = places;
  }

  on(device: Device): Tensor {
    const tensor = this.#places.get(device);
    if (!tensor) throw internalError(`tensor ${this.name} has no place on ${device.name}`);
    return tensor;
  }

  [Symbol.dispose](): void {
    for (const tensor of this.#places.values()) tensor[Symbol.dispose]();
  }
}
