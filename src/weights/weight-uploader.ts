import type { Device, Tensor } from '../tensor/device.ts';
import { widen } from '../quant/widen.ts';
import { blockElements, byteLengthOf, elementCount, elementsIn } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { PlannedWeight } from './weight-plan.ts';

/** Bytes read at once: enough for a disk's full speed, little beside any memory budget. */
const STAGING_BYTES = 4 << 20;
/** Elements widened at once: f16 as many as are read, of smaller types fewer, so that the widened ones stay small. */
const WIDENED_ELEMENTS = STAGING_BYTES / 2;

/** One is filled while the others are written: getting fresh memory from the system takes longer than reading a fast disk. */
const SLOTS = 4;

/** A staging buffer and the write that still reads it. */
interface Slot {
  readonly raw: Uint8Array<ArrayBuffer>;
  readonly widened: Float32Array<ArrayBuffer>;
  written: Promise<void>;
}

/**
 * Copies weights from their source to the device, piece by piece through a few staging buffers: while some are written to the
 * device, another is filled. Call `drain` before using what was uploaded, and before freeing it.
 */
export class WeightUploader {
  readonly #device: Device;
  readonly #slots: readonly Slot[];
  #turn = 0;

  /** `weights` are all that will be uploaded: small models get small buffers. */
  constructor(device: Device, weights: readonly PlannedWeight[]) {
    this.#device = device;
    const rawBytes = weights.map((weight) => byteLengthOf(weight.source.dtype, pieceElements(weight)));
    const widened = weights.filter(isWidened).map(pieceElements);
    const sizes = [Math.max(0, ...rawBytes), Math.max(0, ...widened)] as const;
    this.#slots = Array.from({ length: SLOTS }, () => makeSlot(...sizes));
  }

  /** `checkpoint` is called before every piece and throws to stop. */
  async upload(weight: PlannedWeight, tensor: Tensor, checkpoint: () => void): Promise<void> {
    const { spec, source, deviceType } = weight;
    const count = elementCount(spec.shape);
    const pieceCount = pieceElements(weight);
    for (let first = 0; first < count; first += pieceCount) {
      const slot = this.#slots[this.#turn++ % SLOTS]!;
      await slot.written;
      checkpoint();
      const raw = slot.raw.subarray(0, byteLengthOf(source.dtype, Math.min(pieceCount, count - first)));
      await source.read(first, raw);
      const bytes = isWidened(weight) ? widenPiece(weight, raw, slot.widened) : raw;
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

const isWidened = ({ source, deviceType }: PlannedWeight): boolean => source.dtype !== deviceType;

/** Whole blocks, of at most the staging buffer. */
function pieceElements(weight: PlannedWeight): number {
  const { dtype } = weight.source;
  const most = Math.min(elementsIn(dtype, STAGING_BYTES), isWidened(weight) ? WIDENED_ELEMENTS : Infinity);
  const block = blockElements(dtype);
  return Math.min(elementCount(weight.spec.shape), Math.floor(most / block) * block);
}

/** Rounded up to 4 bytes, so that views of every type fit. */
function makeSlot(rawBytes: number, widenedElements: number): Slot {
  const raw = new Uint8Array(Math.ceil(rawBytes / 4) * 4);
  return { raw, widened: new Float32Array(widenedElements), written: Promise.resolve() };
}

/** Typed arrays are little-endian on all our platforms. */
function widenPiece(
  { spec, source, deviceType }: PlannedWeight,
  raw: Uint8Array<ArrayBuffer>,
  widened: Float32Array<ArrayBuffer>,
): Uint8Array {
  if (deviceType !== 'f32') throw internalError(`${spec.name}: no conversion of weights from ${source.dtype} to ${deviceType}`);
  const target = widened.subarray(0, elementsIn(source.dtype, raw.byteLength));
  widen(source.dtype, raw, target);
  return new Uint8Array(target.buffer, target.byteOffset, target.byteLength);
}
