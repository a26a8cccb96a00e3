import type { Device, DeviceCapabilities, Tensor } from '../../src/tensor/device.ts';
import { byteLengthOf, elementCount } from '../../src/tensor/dtype.ts';
import { internalError, MemoryError } from '../../src/util/errors.ts';

export interface FakeDeviceOptions {
  readonly capabilities?: Partial<DeviceCapabilities>;
  /** Room for all tensors together, without limit by default. */
  readonly bytes?: number;
  /** Called before every write; may wait, or throw to make it fail. */
  readonly beforeWrite?: (tensor: Tensor, offset: number, bytes: Uint8Array) => unknown;
}

export interface FakeDevice extends Device {
  /** Names of tensors that are allocated and not yet freed. */
  live(): string[];
  /** Content of a live tensor. */
  contents(name: string): Uint8Array;
}

/** A device that only remembers: memory in array buffers, one write at a time in call order, no programs. */
export function makeFakeDevice({ capabilities, bytes: room = Infinity, beforeWrite }: FakeDeviceOptions = {}): FakeDevice {
  const memory = new Map<Tensor, Uint8Array>();
  let usedBytes = 0;
  let peakBytes = 0;
  let last: Promise<unknown> = Promise.resolve();
  const bytesOf = (tensor: Tensor): Uint8Array => {
    const bytes = memory.get(tensor);
    if (!bytes) throw internalError(`tensor ${tensor.name} was freed`);
    return bytes;
  };
  const inTurn = <T>(work: () => T | Promise<T>): Promise<T> => {
    const result = last.then(work);
    last = result.catch(() => {});
    return result;
  };
  const none = (): never => {
    throw internalError('the fake device does not compute');
  };

  return {
    name: 'fake',
    tier: 'cpu',
    capabilities: {
      exactWeights: ['f32'],
      weights: ['f32'],
      kv: ['f32'],
      pagedAttention: true,
      stagedPages: true,
      cacheOrder: 'positions',
      sparseAttention: true,
      splitLookups: true,
      ...capabilities,
    },
    memory: () => ({ usedBytes, peakBytes }),
    live: () => [...memory.keys()].map(({ name }) => name),
    contents: (name) => bytesOf([...memory.keys()].find((tensor) => tensor.name === name)!),
    allocate: (name, dtype, shape) => {
      const byteLength = byteLengthOf(dtype, elementCount(shape));
      if (usedBytes + byteLength > room) throw new MemoryError(`${name} needs ${byteLength} bytes, ${room - usedBytes} are free`);
      const tensor: Tensor = {
        name,
        dtype,
        shape,
        byteLength,
        [Symbol.dispose]: () => {
          if (!memory.delete(tensor)) throw internalError(`tensor ${name} freed twice`);
          usedBytes -= byteLength;
        },
      };
      memory.set(tensor, new Uint8Array(byteLength));
      usedBytes += byteLength;
      peakBytes = Math.max(peakBytes, usedBytes);
      return tensor;
    },
    write: (tensor, offset, bytes) =>
      inTurn(async () => {
        await beforeWrite?.(tensor, offset, bytes);
        bytesOf(tensor).set(bytes, offset);
      }),
    read: (tensor, offset, target) => inTurn(() => target.set(bytesOf(tensor).subarray(offset, offset + target.length))),
    copy: (source, sourceOffset, target, targetOffset, byteLength) =>
      inTurn(() => bytesOf(target).set(bytesOf(source).subarray(sourceOffset, sourceOffset + byteLength), targetOffset)),
    batchKey: none,
    createBatch: none,
    compile: none,
    run: none,
    [Symbol.asyncDispose]: async () => {},
  };
}
