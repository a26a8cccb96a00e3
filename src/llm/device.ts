import { findLibraryDirectory, hasBackend } from '../native/libraries.ts';
import { loadKernels } from '../native/kernels.ts';
import type { Model } from '../models/model.ts';
import type { Device } from '../tensor/device.ts';
import { countGgmlDevices, openGgmlDevice } from '../tensor/ggml-device.ts';
import { LayerRanges } from '../tensor/layer-ranges.ts';
import { openNativeDevice } from '../tensor/native-device.ts';
import { createReferenceDevice } from '../tensor/reference-device.ts';
import { FlexError, NativeError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import { GPU_BACKENDS, type GpuBackend, probeGpu } from './gpu-probe.ts';
import { shareLayers } from './gpu-ranges.ts';

/**
 * `cpu` computes with our own kernels, or with ggml where there are none; the GPU backends with ggml, `gpu` with the first of them that works here, `auto`
 * with that or else like `cpu`; `reference` is plain TypeScript.
 */
export type DeviceName = 'auto' | 'cpu' | 'cuda' | 'gpu' | 'metal' | 'vulkan' | 'reference';

export interface DeviceOptions {
  readonly threads: number;
  /** Nothing is rounded below f32. */
  readonly exact: boolean;
  /** Most GPUs of a backend that share the layers of `model`. Default: all. Without a model, one. */
  readonly gpus?: number | undefined;
  readonly model?: Pick<Model, 'layers'> | undefined;
  /** Bytes of each GPU that may be used. Default: what is free, less a reserve. */
  readonly vramBytes?: number | undefined;
  /** Gains what several GPUs do. */
  readonly lanes?: LaneLog | undefined;
  readonly onNotice?: ((notice: string) => void) | undefined;
}

/** @throws {UsageError} when there is no such device on this platform, {NativeError} with the command that installs it, or why it does not work */
export async function openDevice(name: DeviceName, options: DeviceOptions): Promise<Device> {
  const { threads, exact, onNotice } = options;
  if (name === 'reference') return createReferenceDevice();
  if (name === 'cpu') return openCpu(options);
  if (name !== 'gpu' && name !== 'auto') return openGpu(name, options);
  const failures: string[] = [];
  for (const backend of GPU_BACKENDS.filter(hasBackend)) {
    try {
      return await openGpu(backend, options);
    } catch (cause) {
      if (!(cause instanceof FlexError)) throw cause;
      failures.push(cause.message);
    }
  }
  const why = failures.length > 0 ? failures.join('; ') : 'no GPU backend is installed; `flexllmgen doctor` shows the commands';
  if (name === 'gpu') throw new NativeError(`no GPU can be used: ${why}`);
  onNotice?.(`the processor computes, no GPU can be used: ${why}`);
  return openCpu({ threads, exact });
}

/** Attends beside a GPU. @throws {NativeError} where our kernels are not built */
export function openAttending({ threads }: DeviceOptions): Device {
  const kernels = loadKernels();
  if (!kernels) throw new NativeError('a KV cache beside a GPU needs our kernels, which are not there; `flexllmgen doctor` says why');
  return openNativeDevice(kernels, threads);
}

async function openCpu({ threads, exact }: DeviceOptions): Promise<Device> {
  const kernels = loadKernels();
  return kernels ? openNativeDevice(kernels, threads) : openGgmlDevice({ backend: 'cpu', threads, exact });
}

async function openGpu(backend: GpuBackend, options: DeviceOptions): Promise<Device> {
  const { exact, gpus, model } = options;
  findLibraryDirectory(backend); // what is not installed need not be tried
  const most = model ? gpus : 1;
  await probeGpu(backend, exact, most);
  const devices: Device[] = [];
  try {
    const count = Math.min(countGgmlDevices(backend, exact), most ?? Infinity);
    for (let index = 0; index < count; index++) devices.push(await openGgmlDevice({ ...options, backend, index }));
    return await joinGpus(devices, options);
  } catch (cause) {
    for (const device of devices) await device[Symbol.asyncDispose]();
    throw cause;
  }
}

/** As one device, those that are worth it; the others are closed. */
async function joinGpus(devices: readonly Device[], { model, vramBytes, lanes }: DeviceOptions): Promise<Device> {
  const [first] = devices;
  if (!model || devices.length === 1) return first!;
  const rooms = devices.map((device) => device.room?.() ?? { freeBytes: 0, isRam: false });
  const { used, ranges } = shareLayers(model, rooms, vramBytes);
  for (const [gpu, device] of devices.entries()) if (!used.includes(gpu)) await device[Symbol.asyncDispose]();
  if (used.length === 1) return devices[used[0]!]!;
  return new LayerRanges({ devices: used.map((gpu) => devices[gpu]!), ranges, lanes });
}
