import type { ByteSource } from './byte-source.ts';
import { itemBytesOf, storedBytes, type StoredTensor } from './tensor-entry.ts';

/** Read at once when elements are gathered: much against the cost of a read, little beside any memory budget. */
const STAGING_BYTES = 1 << 20;
/** Neighbouring runs are read together while at least one in so many elements is wanted; otherwise each by itself. */
const MAX_WASTE = 4;

/** A dimension of a view: elements, and the distance of neighbours in elements. */
interface Axis {
  readonly size: number;
  readonly stride: number;
}

/** Elements of a 2-dimensional view, both axes with an origin in `target` and in the file, in elements. */
interface Rectangle {
  readonly from: number;
  readonly to: number;
  readonly rows: Axis & { readonly step: number };
  readonly columns: Axis & { readonly step: number };
}

/**
 * Fills `target` with the elements from number `first` on, in row-major order whatever the order in the file; so `first` and `target` are at whole elements, or whole blocks.
 * Of a strided tensor no more than 1 MiB is held besides.
 * @throws {FormatError} when the range leaves the file
 * @throws {FlexError} `io`, when the disk fails
 */
export async function readTensor(tensor: StoredTensor, first: number, target: Uint8Array): Promise<void> {
  const { dtype, shape, strides, start, source } = tensor;
  if (!strides) return source.read(start + storedBytes(dtype, first), target);
  const itemBytes = itemBytesOf(dtype);
  const axes = mergeAxes(shape.map((size, i) => ({ size, stride: strides[i]! })));
  const [rows, columns] = axes.slice(-2) as [Axis, Axis];
  const outer = axes.slice(0, -2);
  const planeCount = rows.size * columns.size;
  const gather = new Gatherer(source, start, itemBytes, target);
  const end = first + target.byteLength / itemBytes;
  for (let at = first; at < end;) {
    const plane = Math.floor(at / planeCount);
    const inPlane = at - plane * planeCount;
    const count = Math.min(planeCount - inPlane, end - at);
    for (const part of split(inPlane, count, rows, columns)) {
      await gather.copy({ ...part, from: offsetOf(outer, plane) + part.from, to: at - first + part.to });
    }
    at += count;
  }
}

/** Drops dimensions of one element, and joins neighbours that lie like one. At least two remain. */
function mergeAxes(axes: readonly Axis[]): Axis[] {
  const merged: Axis[] = [];
  for (const axis of axes.filter(({ size }) => size !== 1)) {
    const last = merged.at(-1);
    if (last && last.stride === axis.stride * axis.size) merged[merged.length - 1] = { size: last.size * axis.size, stride: axis.stride };
    else merged.push(axis);
  }
  const missing = Array.from({ length: Math.max(0, 2 - merged.length) }, () => ({ size: 1, stride: 0 }));
  return [...missing, ...merged];
}

/** Where plane number `index` begins. */
function offsetOf(outer: readonly Axis[], index: number): number {
  let rest = index;
  return outer.reduceRight((offset, { size, stride }) => {
    const at = rest % size;
    rest = Math.floor(rest / size);
    return offset + at * stride;
  }, 0);
}

/** A range of a plane in row-major order: the end of a row, whole rows, the beginning of a row. */
function split(first: number, count: number, rows: Axis, columns: Axis): Rectangle[] {
  const parts: Rectangle[] = [];
  const width = columns.size;
  for (let at = first; at < first + count;) {
    const [row, column] = [Math.floor(at / width), at % width];
    const rest = first + count - at;
    const whole = column === 0 && rest >= width;
    const taken = whole ? Math.floor(rest / width) : 1;
    const length = whole ? width : Math.min(width - column, rest);
    parts.push({
      from: row * rows.stride + column * columns.stride,
      to: at - first,
      rows: { size: taken, stride: rows.stride, step: width },
      columns: { size: length, stride: columns.stride, step: 1 },
    });
    at += taken * length;
  }
  return parts;
}

class Gatherer {
  readonly #source: ByteSource;
  readonly #start: number;
  readonly #itemBytes: number;
  readonly #target: Uint8Array;
  #staging = new Uint8Array(0);

  constructor(source: ByteSource, start: number, itemBytes: number, target: Uint8Array) {
    this.#source = source;
    this.#start = start;
    this.#itemBytes = itemBytes;
    this.#target = target;
  }

  /** The axis whose neighbours lie closer is the inner one; runs along it are read at once, several together where they lie close. */
  async copy({ from, to, rows, columns }: Rectangle): Promise<void> {
    const [outer, inner] = columns.stride <= rows.stride ? [rows, columns] : [columns, rows];
    const room = STAGING_BYTES / this.#itemBytes;
    const runLength = Math.min(inner.size, 1 + Math.floor((room - 1) / Math.max(1, inner.stride)));
    const spread = (runLength - 1) * inner.stride + 1;
    const close = outer.stride > 0 && outer.stride <= MAX_WASTE * runLength;
    const together = close ? Math.max(1, 1 + Math.floor((room - spread) / outer.stride)) : 1;
    for (let i = 0; i < outer.size; i += together) {
      for (let j = 0; j < inner.size; j += runLength) {
        const part = { outer: Math.min(together, outer.size - i), inner: Math.min(runLength, inner.size - j) };
        const origin = { from: from + i * outer.stride + j * inner.stride, to: to + i * outer.step + j * inner.step };
        await this.#copyWindow(origin, { ...outer, size: part.outer }, { ...inner, size: part.inner });
      }
    }
  }

  async #copyWindow(origin: { from: number; to: number }, outer: Rectangle['rows'], inner: Rectangle['rows']): Promise<void> {
    const itemBytes = this.#itemBytes;
    const byteLength = ((outer.size - 1) * outer.stride + (inner.size - 1) * inner.stride + 1) * itemBytes;
    if (this.#staging.length < byteLength) this.#staging = new Uint8Array(byteLength);
    const window = this.#staging.subarray(0, byteLength);
    await this.#source.read(this.#start + origin.from * itemBytes, window);
    for (let i = 0; i < outer.size; i++) {
      for (let j = 0; j < inner.size; j++) {
        const from = (i * outer.stride + j * inner.stride) * itemBytes;
        const to = (origin.to + i * outer.step + j * inner.step) * itemBytes;
        for (let b = 0; b < itemBytes; b++) this.#target[to + b] = window[from + b]!;
      }
    }
  }
}
