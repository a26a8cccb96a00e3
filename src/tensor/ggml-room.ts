/** What is free of a GPU's memory. */
import type { BackendDevice } from '../native/ggml.ts';
import type { Ggml } from '../native/open-ggml.ts';
import type { DeviceRoom } from './device.ts';

/** GGML_BACKEND_DEVICE_TYPE_IGPU: its memory is the machine's. */
const INTEGRATED = 2;

/** Whether a device of this description is Mesa's driver on the processor. */
export const isSoftware = (description: string): boolean => description.includes('llvmpipe');

export function roomOf({ base, name }: Pick<Ggml, 'base' | 'name'>, device: BackendDevice): DeviceRoom {
  const free = new BigUint64Array(1);
  base.deviceMemory(device, free, new BigUint64Array(1));
  const isRam = base.deviceType(device) === INTEGRATED || name === 'metal' || isSoftware(base.deviceDescription(device));
  return { freeBytes: Number(free[0]), isRam };
}
