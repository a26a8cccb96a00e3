import type { Device, Program } from '../../src/tensor/device.ts';
import { createReferenceDevice } from '../../src/tensor/reference-device.ts';

/** A device whose runs call `before` first. */
export function watchedDevice(before: (program: Program) => void): Device {
  const device = createReferenceDevice();
  const run = async (program: Program): Promise<void> => {
    before(program);
    await device.run(program);
  };
  return new Proxy(device, {
    get: (target, key) => {
      if (key === 'run') return run;
      const value: unknown = Reflect.get(target, key, target);
      return typeof value === 'function' ? value.bind(target) : value;
    },
  });
}
