import type { Device, Tensor } from '../tensor/device.ts';
import { byteLengthOf, elementCount, type WeightType, widenBf16, widenF16 } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { PlannedWeight } from './weight-plan.ts';

/** Bytes read at once: enough for a disk's full speed, little beside any memory budget. */
const STAGING_BYTES = 4 << 20;

/** A staging buffer and the write that still reads it. */
interface Slot {
  readonly raw: Uint8Array<ArrayBuffer>;
  readonly widened: Float32Array<ArrayBuffer>;
  written: Promise<void>;
}

/**
 * Copies weights from their source to the device, piece by piece through two staging buffers: while one is written to the
 * device, the other is filled. Call `drain` before using what was uploaded, and before freeing it.
 */
export class WeightUploader {
  readonly #device: Device;
  readonly #slots: readonly [Slot, Slot];
  #turn = 0;

  /** `weights` are all that will be uploaded: small models get small buffers. */
  constructor(device: Device, weights: readonly PlannedWeight[]) {
    this.#device = device;
    const toWiden = weights.filter(({ source, deviceType }) => source.dtype !== deviceType);
    const sizes = [largestPiece(weights), largestPiece(toWiden)] as const;
    this.#slots = [makeSlot(...sizes), makeSlot(...sizes)];
  }

  /** `checkpoint` is called before every piece and throws to stop. */
  async upload({ spec, source, deviceType }: PlannedWeight, tensor: Tensor, checkpoint: () => void): Promise<void> {
    const count = elementCount(spec.shape);
    const pieceCount = STAGING_BYTES / byteLengthOf(source.dtype, 1);
    for (let first = 0; first < count; first += pieceCount) {
      const slot = this.#slots[this.#turn++ % 2]!;
      await slot.written;
      checkpoint();
      const raw = slot.raw.subarray(0, byteLengthOf(source.dtype, Math.min(pieceCount, count - first)));
      await source.read(first, raw);
      const bytes = convert(raw, slot.widened, source.dtype, deviceType);
      slot.written = this.#device.write(tensor, byteLengthOf(deviceType, first), bytes);
      // It is awaited later, at the slot's next use or in `drain`; until then a failure must not count as unhandled.
      slot.written.catch(() => {});
    }
  }

  /** Waits for the writes in flight, also when one fails, and then throws what failed. */
  async drain(): Promise<void> {
    const writes = this.#slots.map(({ written }) => written);
    await Promise.allSettled(writes);
    await Promise.all(writes);
  }
}

function makeSlot(rawBytes: number, bytesToWiden: number): Slot {
  return { raw: new Uint8Array(rawBytes), widened: new Float32Array(bytesToWiden / 2), written: Promise.resolve() };
}

/** Stored bytes, rounded up to 4 so that views of every type fit. */
function largestPiece(weights: readonly PlannedWeight[]): number {
  const bytes = weights.reduce((most, { spec, source }) => Math.max(most, byteLengthOf(source.dtype, elementCount(spec.shape))), 0);
  return Math.min(STAGING_BYTES, Math.ceil(bytes / 4) * 4);
}

/** Bytes of the device's type; `widened` holds them when they differ from `raw`. Typed arrays are little-endian on all our platforms. */
function convert(raw: Uint8Array<ArrayBuffer>, widened: Float32Array<ArrayBuffer>, stored: WeightType, wanted: WeightType): Uint8Array {
  if (stored === wanted) return raw;
  if (stored === 'f32' || wanted !== 'f32') throw internalError(`no conversion of weights from ${stored} to ${wanted}`);
  const halves = new Uint16Array(raw.buffer, raw.byteOffset, raw.byteLength / 2);
  const target = widened.subarray(0, halves.length);
  if (stored === 'f16') widenF16(halves, target);
  else widenBf16(halves, target);
  return new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
}
