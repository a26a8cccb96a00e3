import type { Device, HostArena, Tensor } from '../tensor/device.ts';
import { directBuffer } from '../native/page-cache.ts';
import { widen } from '../quant/widen.ts';
import { blockElements, byteLengthOf, elementCount, elementsIn } from '../tensor/dtype.ts';
import { internalError } from '../util/errors.ts';
import type { LaneLog } from '../util/lanes.ts';
import type { WeightRows } from './placement.ts';
import type { PlannedWeight } from './weight-plan.ts';

/** Bytes read at once: enough for a disk's full speed, little beside any memory budget. */
const STAGING_BYTES = 4 << 20;
/** Elements widened at once: f16 as many as are read, of smaller types fewer, so that the widened ones stay small. */
const WIDENED_ELEMENTS = STAGING_BYTES / 2;

const PAGE_BYTES = 4096;

/** Pieces in flight: some are read while others are written, and a fast disk wants to be asked for several. */
const SLOTS = 8;

/** A staging buffer and the piece that is in it; resolves, never rejects, when the buffer is free. */
interface Slot {
  readonly raw: Uint8Array<ArrayBuffer>;
  readonly widened: Float32Array<ArrayBuffer>;
  free: Promise<void>;
}

/** Rows of a weight, and the tensor that they become. */
export interface Destination {
  readonly rows: WeightRows;
  readonly tensor: Tensor;
  /** Where the tensor lies in RAM beside the device. */
  readonly host?: HostArena | undefined;
}

/** A piece of a weight: `count` elements from element `first` on, which go to element `at` of the tensor. */
interface Piece extends Omit<Destination, 'rows'> {
  readonly weight: PlannedWeight;
  readonly first: number;
  readonly at: number;
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
  readonly #lanes: LaneLog | undefined;
  #turn = 0;

  /** `weights` are all that will be uploaded: small models get small buffers. `lanes` hear of every read. */
  constructor(device: Device, weights: readonly PlannedWeight[], lanes?: LaneLog) {
    this.#device = device;
    this.#lanes = lanes;
    const { raw, widened } = slotSizes(device, weights);
    this.#slots = Array.from({ length: SLOTS }, () => makeSlot(raw, widened));
  }

  /**
   * Uploads may overlap. Resolves when all pieces are on their way; `done` then resolves when the last one is on the device, or rejects with the first error.
   * @param checkpoint is called before every piece and throws to stop
   */
  async upload({ rows: { weight, from, to }, tensor, host }: Destination, checkpoint: () => void): Promise<Upload> {
    const pieces: Promise<void>[] = [];
    try {
      const most = pieceElements(weight);
      const columns = elementCount(weight.spec.shape) / (weight.spec.shape[0] ?? 1);
      const total = (to - from) * columns;
      for (let at = 0; at < total; at += most) {
        checkpoint();
        const slot = this.#slots[this.#turn++ % SLOTS]!;
        const { free } = slot;
        const piece = free.then(() =>
          this.#carry(slot, { weight, tensor, host, first: from * columns + at, at, count: Math.min(most, total - at) }),
        );
        // At once, so that another upload that comes round to the slot waits for this piece. What failed is told by `done`.
        slot.free = piece.catch(() => {});
        pieces.push(piece);
        await free;
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

  async #carry(slot: Slot, { weight, tensor, host, first, at, count }: Piece): Promise<void> {
    const offset = byteLengthOf(weight.deviceType, at);
    const reached = isWidened(weight) ? undefined : (host ?? viewable(this.#device));
    if (reached) {
      await this.#read(weight, first, reached.view(tensor, offset, byteLengthOf(weight.deviceType, count)));
      return;
    }
    const raw = slot.raw.subarray(0, byteLengthOf(weight.source.dtype, count));
    await this.#read(weight, first, raw);
    const bytes = isWidened(weight) ? widenPiece(weight, raw, slot.widened) : raw;
    const end = host || this.#device.tier === 'cpu' ? undefined : this.#lanes?.start('upload', tensor.name, bytes.byteLength);
    await this.#device.write(tensor, offset, bytes).finally(end);
  }

  async #read({ spec, source }: PlannedWeight, first: number, target: Uint8Array): Promise<void> {
    const end = this.#lanes?.start('disk read', spec.name, target.byteLength);
    try {
      await source.read(first, target);
    } finally {
      end?.();
    }
  }
}

const isWidened = ({ source, deviceType }: PlannedWeight): boolean => source.dtype !== deviceType;

/** The device, if the processor reaches its memory: what is read needs no copy then. */
function viewable(device: Device): Pick<HostArena, 'view'> | undefined {
  return device.view && { view: (...place) => device.view!(...place) };
}

/** Bytes and elements of a slot's two buffers. */
function slotSizes(device: Device, weights: readonly PlannedWeight[]): { raw: number; widened: number } {
  const staged = weights.filter((weight) => isWidened(weight) || !device.view);
  return {
    raw: Math.max(0, ...staged.map((weight) => byteLengthOf(weight.source.dtype, pieceElements(weight)))),
    widened: Math.max(0, ...weights.filter(isWidened).map(pieceElements)),
  };
}

/** Bytes of memory that the buffers for these weights take. */
export function stagingBytes(device: Device, weights: readonly PlannedWeight[]): number {
  const { raw, widened } = slotSizes(device, weights);
  return SLOTS * (raw + 4 * widened);
}

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
