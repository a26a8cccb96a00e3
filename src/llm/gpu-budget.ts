/** How much of a GPU's memory, and of the RAM beside it, a model may take unasked. */
import type { DeviceRoom } from '../tensor/device.ts';
import { availableMemoryBytes } from '../util/machine.ts';

/** Of what is free on a GPU: backends keep buffers of their own for widened weights, drivers round up, and a desktop wants some. */
const RESERVED_SHARE = 1 / 16;
const LEAST_RESERVED_BYTES = 256 << 20;
/** Of free RAM, what weights may take unasked: page-locked memory cannot be taken back when other programs need some. */
const HELD_SHARE = 3 / 4;

/** Bytes that may be used of each of several GPUs; those without memory of their own share the machine's. */
export function gpuLimits(rooms: readonly DeviceRoom[], vramBytes?: number): number[] {
  const sharing = rooms.filter(({ isRam }) => isRam).length;
  return rooms.map((room) => {
    const freeBytes = room.isRam ? Math.min(room.freeBytes, availableMemoryBytes()) / sharing : room.freeBytes;
    return gpuBudget({ ...room, freeBytes }, vramBytes).budgetBytes;
  });
}

/** What a plan on a GPU is made with. `vramBytes` is what was asked for. */
export function gpuBudget({ freeBytes, isRam }: DeviceRoom, vramBytes?: number) {
  const free = isRam ? Math.min(freeBytes, availableMemoryBytes()) : freeBytes;
  return {
    memoryName: 'GPU memory',
    budgetBytes: vramBytes ?? Math.max(0, free - Math.max(LEAST_RESERVED_BYTES, free * RESERVED_SHARE)),
    // A budget that was set is there to be used; see PlanOptions.
    programBytes: vramBytes === undefined ? undefined : 0,
  };
}

/** Where GPU and processor share their RAM, weights beside those on the GPU would take it twice. */
export function heldLimit(
  { isRam }: DeviceRoom,
  { memoryBytes }: { readonly memoryBytes?: number | undefined },
): { mostHeldBytes?: number } {
  if (memoryBytes !== undefined) return {};
  return { mostHeldBytes: isRam ? 0 : availableMemoryBytes() * HELD_SHARE };
}
