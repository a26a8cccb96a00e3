import { loadKernels } from '../native/kernels.ts';
import type { Device } from '../tensor/device.ts';
import { openGgmlDevice } from '../tensor/ggml-device.ts';
import { openNativeDevice } from '../tensor/native-device.ts';
import { createReferenceDevice } from '../tensor/reference-device.ts';

/** `cpu` computes with our own kernels, or with ggml where there are none; the GPU backends with ggml; `reference` is plain TypeScript. */
export type DeviceName = 'cpu' | 'cuda' | 'metal' | 'vulkan' | 'reference';

/**
 * `exact`: nothing is rounded below f32.
 * @throws {UsageError} when there is no such device on this platform, {NativeError} with the command that installs it
 */
export async function openDevice(name: DeviceName, threads: number, exact: boolean): Promise<Device> {
  if (name === 'reference') return createReferenceDevice();
  const kernels = name === 'cpu' ? loadKernels() : undefined;
  return kernels ? openNativeDevice(kernels, threads) : openGgmlDevice({ backend: name, threads, exact });
}
