import type { StoredTensor } from '../formats/tensor-entry.ts';
import type { WeightSpec } from '../models/model.ts';
import { checkpointWeights } from './checkpoint-weights.ts';
import type { WeightSource } from './weight-source.ts';

export interface GgufTensors {
  /** For messages. */
  readonly file: string;
  readonly entries: ReadonlyMap<string, StoredTensor>;
}

/**
 * The weights of an open GGUF file, under our names, which are those of such files. It holds the sum with an `offset` already, and
 * experts as one tensor [experts, outputs, inputs]. The file must stay open while weights are read.
 */
export function ggufWeights({ file, entries }: GgufTensors): WeightSource {
  return {
    find: (spec, layer) => {
      const stored = asStored(spec, entries);
      const names = stored.stack ? stackNames(stored.stack) : stored.sources;
      const found = names.flatMap((name) => entries.get(name) ?? []);
      const views = found.map((entry): [string, StoredTensor] => [
        entry.name,
        { ...entry, shape: flatten(entry.shape, spec.shape.length) },
      ]);
      // Without the tensor the whole table is passed on, for the message.
      return checkpointWeights({ folder: file, entries: views.length > 0 ? new Map(views) : entries }).find(stored, layer);
    },
  };
}

/** How a file has what a spec describes. */
function asStored(spec: WeightSpec, entries: GgufTensors['entries']): WeightSpec {
  const { name, shape, role, rows, stack, rowsPerToken } = spec;
  const common = { name, shape, role, ...(rowsPerToken !== undefined && { rowsPerToken }) };
  if (stack && !entries.has(name))
    return { ...common, sources: [], stack: { count: stack.count, sources: (index) => [expertName(name, index)] } };
  if (rows?.fusedName === undefined || (entries.has(name) && !entries.has(rows.fusedName))) return { ...common, sources: [name] };
  return { ...common, sources: [rows.fusedName], rows };
}

const stackNames = ({ count, sources }: NonNullable<WeightSpec['stack']>): string[] =>
  Array.from({ length: count }, (_, index) => sources(index)).flat();

/** Early files have experts one by one: `blk.0.ffn_up.3.weight` instead of `blk.0.ffn_up_exps.weight`. */
const expertName = (name: string, index: number): string => name.replace('_exps.', `.${index}.`);

/** The same elements with `rank` dimensions: outer ones joined, or one of size 1 put in front. */
function flatten(shape: readonly number[], rank: number): number[] {
  const inner = shape.slice(shape.length - rank + 1);
  if (shape.length < rank) return [1, ...shape];
  const outer = shape.slice(0, shape.length - rank + 1);
  return [outer.reduce((product, n) => product * n, 1), ...inner];
}
