import { FormatError } from '../util/errors.ts';
import type { ByteSource } from './byte-source.ts';
import { readPytorchLegacy } from './pytorch-legacy.ts';
import type { PytorchTable } from './pytorch-table.ts';
import { readPytorchZip } from './pytorch-zip.ts';

/** `PK`, as every zip file begins. */
const ZIP_START = [0x50, 0x4b];
/** PROTO, as every pickle of protocol 2 and later begins. */
const PICKLE_START = [0x80];

/**
 * Reads the table of a file that torch.save wrote from a dictionary of tensors: zip (since PyTorch 1.6) or older. Nothing is executed, and no
 * weight is read.
 * @throws {FormatError} naming the byte, opcode, global or tensor when the file is damaged or holds anything else
 */
export async function readPytorch(source: ByteSource): Promise<PytorchTable> {
  const head = new Uint8Array(Math.min(2, source.byteLength));
  await source.read(0, head);
  const begins = (start: readonly number[]): boolean => start.every((byte, i) => head[i] === byte);
  if (begins(ZIP_START)) return readPytorchZip(source);
  if (begins(PICKLE_START)) return readPytorchLegacy(source);
  throw new FormatError(source.name, 'begins neither like a zip file nor like a pickle; was it written by torch.save?');
}
