import { FormatError } from '../util/errors.ts';
import { MAX_NAME_LENGTH, MAX_TENSORS } from './limits.ts';
import { describeKind, type PickledStorage, type PickledTensor, type PickleValue } from './pickle-values.ts';
import { quote } from './quote.ts';
import { itemBytesOf, type TensorEntry } from './tensor-entry.ts';

export interface PytorchTable {
  /** In file order. Tied weights share their bytes. */
  readonly entries: readonly TensorEntry[];
  /** Bytes up to the end of what tells tensors apart. */
  readonly headerBytes: number;
}

export const storageBytes = ({ dtype, count }: PickledStorage): number => itemBytesOf(dtype) * count;

/**
 * The tensors of an unpickled dictionary, by what `startOf` says of their storages.
 * @throws {FormatError} naming the key when it is no dictionary, or holds anything but tensors
 */
export function tensorEntries(file: string, value: PickleValue, startOf: (storage: PickledStorage) => number): TensorEntry[] {
  if (typeof value !== 'object' || value?.kind !== 'dict')
    throw new FormatError(file, `holds ${describeKind(value)}, a dictionary of tensors is expected`);
  const { items } = value;
  if (items.length > 2 * MAX_TENSORS) throw new FormatError(file, `lists ${items.length / 2} tensors, at most ${MAX_TENSORS} are read`);
  const entries = new Map<string, TensorEntry>();
  for (let i = 0; i < items.length; i += 2) {
    const [name, tensor] = [items[i], items[i + 1]];
    if (typeof name !== 'string') throw new FormatError(file, `has ${describeKind(name)} as a tensor's name, a string is expected`);
    const fail = (problem: string): never => {
      throw new FormatError(file, `tensor ${quote(name)}: ${problem}`);
    };
    if (name.length > MAX_NAME_LENGTH) fail(`name of ${name.length} characters, at most ${MAX_NAME_LENGTH} are read`);
    if (typeof tensor !== 'object' || tensor?.kind !== 'tensor') return fail(`is ${describeKind(tensor)}, a tensor is expected`);
    if (entries.has(name)) fail('stands twice in the dictionary');
    entries.set(name, toEntry(name, tensor, startOf(tensor.storage)));
  }
  return [...entries.values()].sort((a, b) => a.start - b.start || a.byteLength - b.byteLength);
}

function toEntry(name: string, { storage, offset, shape, strides }: PickledTensor, storageStart: number): TensorEntry {
  const { dtype } = storage;
  const itemBytes = itemBytesOf(dtype);
  const byteLength = shape.reduce((product, n) => product * n, itemBytes);
  const start = storageStart + itemBytes * offset;
  return { name, dtype, shape, start, byteLength, ...(!isRowMajor(shape, strides) && { strides }) };
}

/** The stride of a dimension of one element means nothing. */
function isRowMajor(shape: readonly number[], strides: readonly number[]): boolean {
  let expected = 1;
  for (let i = shape.length - 1; i >= 0; i--) {
    if (shape[i] !== 1 && strides[i] !== expected) return shape.includes(0);
    expected *= shape[i]!;
  }
  return true;
}
