import type { Checkpoint } from '../formats/checkpoint.ts';
import { quote } from '../formats/quote.ts';
import { readTensor } from '../formats/read-tensor.ts';
import type { StoredTensor } from '../formats/tensor-entry.ts';
import type { WeightSpec } from '../models/model.ts';
import type { WeightType } from '../tensor/dtype.ts';
import { FlexError, FormatError } from '../util/errors.ts';
import type { WeightSource } from './weight-source.ts';

const WEIGHT_TYPES: Readonly<Partial<Record<string, WeightType>>> = { F32: 'f32', F16: 'f16', BF16: 'bf16' };

/** The weights of an open checkpoint, under whichever of a spec's source names it has. The checkpoint must stay open while they are read. */
export function checkpointWeights(checkpoint: Pick<Checkpoint, 'folder' | 'entries'>): WeightSource {
  return {
    find: (spec, layer) => {
      const entry = findEntry(checkpoint, spec, layer);
      return { dtype: checkEntry(entry, spec, layer), read: (first, target) => readElements(entry, first, target) };
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
  const sameShape = shape.length === spec.shape.length && shape.every((n, i) => n === spec.shape[i]);
  if (!sameShape)
    throw new FormatError(source.name, `${where} has shape [${shape.join(', ')}], the configuration asks for [${spec.shape.join(', ')}]`);
  const type = WEIGHT_TYPES[dtype];
  if (!type)
    throw new FormatError(source.name, `${where} is stored as ${dtype}; weights of ${Object.keys(WEIGHT_TYPES).join(', ')} are read`);
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
