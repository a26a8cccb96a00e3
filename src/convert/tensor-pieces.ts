import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { readAhead } from '../util/read-ahead.ts';
import { interleaveRows } from './interleave.ts';
import { type OutputTensor, rowElements, unitElements } from './output-tensors.ts';

/** Elements read at once: enough for a disk's full speed and for all cores, little beside any memory budget. */
const PIECE_ELEMENTS = 2 << 20;
/** Pieces in progress: one is read, one is worked out, one is written. */
const PIECES_AHEAD = 3;

/** The bytes of a tensor in order, in pieces, each worked out while the one before it is written. @throws {FormatError} naming file and tensor */
export function tensorPieces(tensor: OutputTensor): AsyncGenerator<Uint8Array, void, void> {
  const count = elementCount(tensor.shape);
  const unit = unitElements(tensor);
  const most = Math.max(1, Math.floor(PIECE_ELEMENTS / unit)) * unit;
  const starts = Array.from({ length: Math.ceil(count / most) }, (_, i) => i * most);
  return readAhead(starts, PIECES_AHEAD, (first) => readPiece(tensor, first, Math.min(most, count - first)));
}

async function readPiece(tensor: OutputTensor, first: number, count: number): Promise<Uint8Array> {
  const bytes = new Uint8Array(byteLengthOf(tensor.dtype, count));
  await tensor.weight.read(first, bytes);
  return tensor.interleave ? interleaveRows(bytes, byteLengthOf(tensor.dtype, rowElements(tensor)), tensor.interleave) : bytes;
}
