import type { Device, Tensor } from '../src/tensor/device.ts';

/** Numbers of every type that are neither denormal nor large: floats of changing sign, in no order; bytes of blocks are quants and, as halves, about 0.01. */
export async function fill(device: Device, tensor: Tensor): Promise<void> {
  const bytes = new Uint8Array(tensor.byteLength);
  if (tensor.dtype === 'f32') new Float32Array(bytes.buffer).forEach((_, i, all) => (all[i] = Math.sin(i * i) / 4));
  else new Uint16Array(bytes.buffer).fill(tensor.dtype === 'bf16' ? 0x3c23 : 0x211f);
  await device.write(tensor, 0, bytes);
}
