import type { Device } from '../tensor/device.ts';
import { openGgmlDevice } from '../tensor/ggml-device.ts';
import { createReferenceDevice } from '../tensor/reference-device.ts';

/** `cpu` and the GPU backends compute with ggml; `reference` is plain TypeScript. */
export type DeviceName = 'cpu' | 'cuda' | 'metal' | 'vulkan' | 'reference';

/**
 * `exact`: nothing is rounded below f32.
 * @throws {UsageError} when there is no such device on this platform, {NativeError} with the command that installs it
 */
export async function openDevice(name: DeviceName, threads: number, exact: boolean): Promise<Device> {
  return name === 'reference' ? createReferenceDevice() : openGgmlDevice({ backend: name, threads, exact });
}
