import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { readAhead } from '../util/read-ahead.ts';
import { interleaveRows } from './interleave.ts';
import { type OutputTensor, rowElements, unitElements } from './output-tensors.ts';

/** Elements read at once: enough for a disk's full speed and for all cores, little beside any memory budget. */
const PIECE_ELEMENTS = 2 << 20;
/** Pieces in progress: one is read, one is worked out, one is written. */
const PIECES_AHEAD = 3;

/** Reads tensors one after another through the same few buffers. */
export class PieceReader {
  readonly #buffers: Uint8Array[] = [];

  /**
   * The bytes of a tensor in order, in pieces, each worked out while the one before it is written. A piece is valid until the next one is
   * asked for.
   * @throws {FormatError} naming file and tensor
   */
  pieces(tensor: OutputTensor): AsyncGenerator<Uint8Array, void, void> {
    const count = elementCount(tensor.shape);
    const unit = unitElements(tensor);
    const most = Math.max(1, Math.floor(PIECE_ELEMENTS / unit)) * unit;
    const starts = Array.from({ length: Math.ceil(count / most) }, (_, i) => i * most);
    return readAhead(starts, PIECES_AHEAD, (first) =>
      readPiece(tensor, first, this.#buffer(first / most, byteLengthOf(tensor.dtype, Math.min(most, count - first)))),
    );
  }

  #buffer(turn: number, bytes: number): Uint8Array {
    const index = turn % (PIECES_AHEAD + 1);
    const buffer = this.#buffers[index];
    if (buffer && buffer.byteLength >= bytes) return buffer.subarray(0, bytes);
    this.#buffers[index] = new Uint8Array(bytes);
    return this.#buffers[index];
  }
}

async function readPiece(tensor: OutputTensor, first: number, bytes: Uint8Array): Promise<Uint8Array> {
  await tensor.weight.read(first, bytes);
  return tensor.interleave ? interleaveRows(bytes, byteLengthOf(tensor.dtype, rowElements(tensor)), tensor.interleave) : bytes;
}
