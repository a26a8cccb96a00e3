import type { DeviceCapabilities } from './device.ts';

/** Of devices that read tensors in JavaScript, element by element: they widen what they read, so nothing is rounded. */
export const SCRIPT_CAPABILITIES: DeviceCapabilities = {
  exactWeights: ['f32', 'f16', 'bf16'],
  weights: ['f32', 'f16', 'bf16'],
  kv: ['f32', 'f16'],
  pagedAttention: true,
  stagedPages: true,
  cacheOrder: 'positions',
  sparseAttention: true,
  splitLookups: true,
};
