import type { Device, Tensor } from '../tensor/device.ts';
import { directBuffer } from '../native/page-cache.ts';
import { widen } from '../quant/widen.ts';
import { blockElements, byteLengthOf, elementCount, elementsIn } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { PlannedWeight } from './weight-plan.ts';

/** Bytes read at once: enough for a disk's full speed, little beside any memory budget. */
const STAGING_BYTES = 4 << 20;
/** Elements widened at once: f16 as many as are read, of smaller types fewer, so that the widened ones stay small. */
const WIDENED_ELEMENTS = STAGING_BYTES / 2;

const PAGE_BYTES = 4096;

/** Pieces in flight: some are read while others are written, and a fast disk wants to be asked for several. */
const SLOTS = 6;

/** A staging buffer and the piece that is in it; resolves, never rejects, when the buffer is free. */
interface Slot {
  readonly raw: Uint8Array<ArrayBuffer>;
  readonly widened: Float32Array<ArrayBuffer>;
  free: Promise<void>;
}

/** A piece of a weight: `count` elements from element `first` on. */
interface Piece {
  readonly weight: PlannedWeight;
  readonly tensor: Tensor;
  readonly first: number;
  readonly count: number;
}

export interface Upload {
  /** Resolves when the weight is on the device. */
  readonly done: Promise<unknown>;
}

/** Copies weights from their source to the device, piece by piece through a few staging buffers, several pieces at a time. */
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

  /**
   * Resolves when all pieces are on their way; `done` then resolves when the last one is on the device, or rejects with the first error.
   * @param checkpoint is called before every piece and throws to stop
   */
  async upload(weight: PlannedWeight, tensor: Tensor, checkpoint: () => void): Promise<Upload> {
    const pieces: Promise<void>[] = [];
    try {
      const most = pieceElements(weight);
      const total = elementCount(weight.spec.shape);
      for (let first = 0; first < total; first += most) {
        const slot = this.#slots[this.#turn++ % SLOTS]!;
        await slot.free;
        checkpoint();
        const piece = this.#carry(slot, { weight, tensor, first, count: Math.min(most, total - first) });
        slot.free = piece.catch(() => {}); // what failed is told by `done`
        pieces.push(piece);
      }
    } catch (cause) {
      await Promise.allSettled(pieces);
      throw cause;
    }
    const done = Promise.all(pieces);
    done.catch(() => {}); // it is awaited later; until then a failure must not count as unhandled
    return { done };
  }

  /** Resolves when nothing is in flight, whether it failed or not. */
  async idle(): Promise<void> {
    await Promise.all(this.#slots.map(({ free }) => free));
  }

  async #carry(slot: Slot, { weight, tensor, first, count }: Piece): Promise<void> {
    const raw = slot.raw.subarray(0, byteLengthOf(weight.source.dtype, count));
    await weight.source.read(first, raw);
    const bytes = isWidened(weight) ? widenPiece(weight, raw, slot.widened) : raw;
    await this.#device.write(tensor, byteLengthOf(weight.deviceType, first), bytes);
  }
}

const isWidened = ({ source, deviceType }: PlannedWeight): boolean => source.dtype !== deviceType;

/** Of at most the staging buffer: whole blocks, and whole pages of a file that begins at one, which direct reads need not copy. */
function pieceElements(weight: PlannedWeight): number {
  const { dtype } = weight.source;
  const most = Math.min(elementsIn(dtype, STAGING_BYTES), isWidened(weight) ? WIDENED_ELEMENTS : Infinity);
  const step = blockElements(dtype) * PAGE_BYTES;
  return Math.min(elementCount(weight.spec.shape), Math.floor(most / step) * step);
}

/** Rounded up to 4 bytes, so that views of every type fit. */
function makeSlot(rawBytes: number, widenedElements: number): Slot {
  const raw = directBuffer(Math.ceil(rawBytes / 4) * 4);
  return { raw, widened: new Float32Array(widenedElements), free: Promise.resolve() };
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
