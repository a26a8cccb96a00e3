/**
 * Made-up weights for benchmarks: as fast as memory, the same in every run. Their spread is that of freshly initialised
 * transformers, so that activations stay in a sane range.
 */
import type { WeightSpec } from '../models/model.ts';
import { recode } from '../quant/recode.ts';
import { blockElements, byteLengthOf, f32ToBf16, f32ToF16, isQuantType, type WeightType } from '../tensor/dtype.ts';
import type { WeightSource } from './weight-source.ts';

export interface DummyOptions {
  /** Type that the weights pretend to be stored in; vectors have no blocks. */
  readonly dtype: WeightType | ((spec: WeightSpec) => WeightType);
}

/** Standard deviation of matrices, as OPT and GPT-2 are initialised. */
const MATRIX_DEVIATION = 0.02;
/** Of biases, and of norm parameters around 1. */
const VECTOR_DEVIATION = 0.002;
/** Elements of the tables that weights repeat, at most. */
const MATRIX_TABLE_LENGTH = 2 ** 20;
const VECTOR_TABLE_LENGTH = 2 ** 16;
const UINT32_RANGE = 2 ** 32;

/** Random weights, decided by name and position alone. Holds about 4 MiB for each type. */
export function dummyWeights({ dtype }: DummyOptions): WeightSource {
  const tables = new Map<string, Promise<Uint8Array>>();
  const tableOf = (type: WeightType, kind: TableKind): Promise<Uint8Array> => {
    const table = tables.get(`${type} ${kind}`) ?? makeTable(type, kind);
    tables.set(`${type} ${kind}`, table);
    return table;
  };
  return {
    find: (spec) => {
      const type = typeof dtype === 'function' ? dtype(spec) : dtype;
      const kind = spec.role !== 'vector' ? 'matrix' : isScale(spec) ? 'scale' : 'bias';
      const shift = hashText(spec.name) % tableBlocks(type, kind);
      return {
        dtype: type,
        read: async (first, target) => {
          const start = byteLengthOf(type, first) + shift * byteLengthOf(type, blockElements(type));
          copyCyclic(await tableOf(type, kind), start, target);
        },
      };
    },
  };
}

type TableKind = 'matrix' | 'scale' | 'bias';

/** Of the one-dimensional weights, linear layers have a `bias` only; a `weight` belongs to a norm. */
const isScale = ({ name, sources }: WeightSpec): boolean => [name, ...sources].some((text) => /weight$/i.test(text));

/** Fills `target` from byte `start` of the endless repetition of `table` on. */
function copyCyclic(table: Uint8Array, start: number, target: Uint8Array): void {
  let from = start % table.length;
  for (let done = 0; done < target.length; from = 0) {
    const piece = table.subarray(from, from + target.length - done);
    target.set(piece, done);
    done += piece.length;
  }
}

async function makeTable(type: WeightType, kind: TableKind): Promise<Uint8Array> {
  const length = tableBlocks(type, kind) * blockElements(type);
  const [mean, deviation] = [kind === 'scale' ? 1 : 0, kind === 'matrix' ? MATRIX_DEVIATION : VECTOR_DEVIATION];
  const values = Float32Array.from({ length }, (_, i) => mean + deviation * nearNormal(i));
  const bytes = new Uint8Array(values.buffer);
  if (type === 'f32') return bytes;
  if (!isQuantType(type)) return new Uint8Array(Uint16Array.from(values, type === 'f16' ? f32ToF16 : f32ToBf16).buffer);
  const blocks = new Uint8Array(byteLengthOf(type, length));
  await recode('f32', bytes, type, blocks);
  return blocks;
}

/** A prime, so that matrices whose rows have a power of two elements do not repeat rows. */
function tableBlocks(type: WeightType, kind: TableKind): number {
  let count = Math.floor((kind === 'matrix' ? MATRIX_TABLE_LENGTH : VECTOR_TABLE_LENGTH) / blockElements(type));
  while (!isPrime(count)) count--;
  return count;
}

function isPrime(value: number): boolean {
  for (let divisor = 2; divisor * divisor <= value; divisor++) if (value % divisor === 0) return false;
  return true;
}

/**
 * Sum of four uniform numbers, scaled to deviation 1: bell-shaped, and unlike Math.log and Math.cos exact on every machine.
 */
function nearNormal(index: number): number {
  let sum = 0;
  for (let i = 0; i < 4; i++) sum += mix(4 * index + i);
  return (sum / UINT32_RANGE - 2) * Math.sqrt(3);
}

/** Integer hash `lowbias32` by Chris Wellons (public domain). */
function mix(value: number): number {
  let x = value;
  x = Math.imul(x ^ (x >>> 16), 0x7feb352d);
  x = Math.imul(x ^ (x >>> 15), 0x846ca68b);
  return (x ^ (x >>> 16)) >>> 0;
}

/** FNV-1a over UTF-16 units. */
function hashText(text: string): number {
  let hash = 0x811c9dc5;
  for (let i = 0; i < text.length; i++) hash = Math.imul(hash ^ text.charCodeAt(i), 0x01000193);
  return mix(hash);
}
