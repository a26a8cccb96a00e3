import type { Checkpoint } from '../formats/checkpoint.ts';
import { quote } from '../formats/quote.ts';
import { readTensor } from '../formats/read-tensor.ts';
import type { StoredTensor } from '../formats/tensor-entry.ts';
import type { WeightSpec } from '../models/model.ts';
import { widen } from '../quant/widen.ts';
import { byteLengthOf, elementCount, elementsIn, WEIGHT_TYPES, type WeightType } from '../tensor/dtype.ts';
import { FlexError, FormatError } from '../util/errors.ts';
import type { SourceWeight, WeightSource } from './weight-source.ts';

/** The weights of an open checkpoint, under whichever of a spec's source names it has. The checkpoint must stay open while they are read. */
export function checkpointWeights(checkpoint: Pick<Checkpoint, 'folder' | 'entries'>): WeightSource {
  return {
    find: (spec, layer) => {
      if (spec.stack) return stackOf(checkpoint, spec, spec.stack, layer);
      const entry = findEntry(checkpoint, spec, layer);
      const dtype = checkEntry(entry, spec, layer);
      const start = (spec.rows?.from ?? 0) * elementCount(spec.shape.slice(1));
      const stored: SourceWeight = { dtype, read: (first, target) => readElements(entry, start + first, target) };
      return spec.offset === undefined ? stored : plusOffset(stored, spec.offset);
    },
  };
}

function findEntry({ folder, entries }: Pick<Checkpoint, 'folder' | 'entries'>, spec: WeightSpec, layer: string): StoredTensor {
  for (const name of spec.sources) {
    const entry = entries.get(name);
    if (entry) return entry;
  }
  const some = [...entries.keys()].slice(0, 3).map(quote).join(', ');
  throw new FormatError(
    folder,
    `no tensor for ${spec.name} of ${layer}; tried ${spec.sources.join(', ')}. There are ${entries.size} tensors, such as ${some || 'none'}`,
    { weight: spec.name, layer, tried: spec.sources },
  );
}

function checkEntry({ name, dtype, shape, source }: StoredTensor, spec: WeightSpec, layer: string): WeightType {
  const where = `tensor ${quote(name)} of ${layer}`;
  const wanted = spec.rows ? [spec.rows.of, ...spec.shape.slice(1)] : spec.shape;
  const sameShape = shape.length === wanted.length && shape.every((n, i) => n === wanted[i]);
  if (!sameShape)
    throw new FormatError(source.name, `${where} has shape [${shape.join(', ')}], the configuration asks for [${wanted.join(', ')}]`);
  const type = WEIGHT_TYPES.find((known) => known.toUpperCase() === dtype);
  if (!type) {
    throw new FormatError(source.name, `${where} is stored as ${dtype}; weights of F32, F16, BF16 and the block types of GGUF are read`);
  }
  return type;
}

async function readElements(tensor: StoredTensor, first: number, target: Uint8Array): Promise<void> {
  const { name, source } = tensor;
  try {
    await readTensor(tensor, first, target);
  } catch (cause) {
    if (!(cause instanceof FlexError)) throw cause;
    throw new FormatError(source.name, `tensor ${quote(name)} cannot be read: ${cause.message}`, { tensor: name }, { cause });
  }
}

function stackOf(
  checkpoint: Pick<Checkpoint, 'folder' | 'entries'>,
  spec: WeightSpec,
  { count, sources }: NonNullable<WeightSpec['stack']>,
  layer: string,
): SourceWeight {
  const [rows, ...columns] = spec.shape as [number, ...number[]];
  const shape = [rows / count, ...columns];
  const parts = Array.from({ length: count }, (_, index) => {
    const part = { ...spec, sources: sources(index), shape };
    const entry = findEntry(checkpoint, part, layer);
    return { entry, dtype: checkEntry(entry, part, layer) };
  });
  const { dtype } = parts[0]!;
  const other = parts.find((part) => part.dtype !== dtype);
  if (other)
    throw new FormatError(
      other.entry.source.name,
      `tensor ${quote(other.entry.name)} of ${layer} is stored as ${other.dtype}, the first of its kind as ${dtype}`,
    );
  const size = elementCount(shape);
  return {
    dtype,
    read: async (first, target) => {
      const end = first + elementsIn(dtype, target.byteLength);
      for (let at = first; at < end;) {
        const index = Math.floor(at / size);
        const stop = Math.min(end, (index + 1) * size);
        await readElements(
          parts[index]!.entry,
          at - index * size,
          target.subarray(byteLengthOf(dtype, at - first), byteLengthOf(dtype, stop - first)),
        );
        at = stop;
      }
    },
  };
}

/** In f32, because a sum with an offset may not fit into the stored type. */
function plusOffset(stored: SourceWeight, offset: number): SourceWeight {
  return {
    dtype: 'f32',
    read: async (first, target) => {
      const raw = new Uint8Array(byteLengthOf(stored.dtype, target.byteLength / 4));
      await stored.read(first, raw);
      const sums = new Float32Array(target.byteLength / 4);
      widen(stored.dtype, raw, sums);
      target.set(new Uint8Array(sums.map((value) => value + offset).buffer));
    },
  };
}
