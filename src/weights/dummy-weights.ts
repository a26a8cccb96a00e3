/**
 * Made-up weights for benchmarks: as fast as memory, the same in every run. Their spread is that of freshly initialised
 * transformers, so that activations stay in a sane range.
 */
import type { WeightSpec } from '../models/model.ts';
import { byteLengthOf, f32ToBf16, f32ToF16, type FloatType } from '../tensor/dtype.ts';
import type { WeightSource } from './weight-source.ts';

export interface DummyOptions {
  /** Type that the weights pretend to be stored in. */
  readonly dtype: FloatType;
}

/** Standard deviation of matrices, as OPT and GPT-2 are initialised. */
const MATRIX_DEVIATION = 0.02;
/** Of biases, and of norm parameters around 1. */
const VECTOR_DEVIATION = 0.002;
/** A prime, so that matrices whose rows have a power of two elements do not repeat rows. */
const MATRIX_TABLE_LENGTH = 1_048_573;
const VECTOR_TABLE_LENGTH = 65_521;
const UINT32_RANGE = 2 ** 32;

/** Random weights, decided by name and position alone. Holds about 4 MiB. */
export function dummyWeights({ dtype }: DummyOptions): WeightSource {
  const matrix = makeTable(dtype, MATRIX_TABLE_LENGTH, 0, MATRIX_DEVIATION);
  const scale = makeTable(dtype, VECTOR_TABLE_LENGTH, 1, VECTOR_DEVIATION);
  const bias = makeTable(dtype, VECTOR_TABLE_LENGTH, 0, VECTOR_DEVIATION);
  return {
    find: (spec) => {
      const table = spec.role !== 'vector' ? matrix : isScale(spec) ? scale : bias;
      const itemBytes = byteLengthOf(dtype, 1);
      const shift = hashText(spec.name) % (table.length / itemBytes);
      return {
        dtype,
        read: async (first, target) => copyCyclic(table, (shift + first) * itemBytes, target),
      };
    },
  };
}

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

function makeTable(dtype: FloatType, length: number, mean: number, deviation: number): Uint8Array {
  const values = Float32Array.from({ length }, (_, i) => mean + deviation * nearNormal(i));
  if (dtype === 'f32') return new Uint8Array(values.buffer);
  const narrow = dtype === 'f16' ? f32ToF16 : f32ToBf16;
  return new Uint8Array(Uint16Array.from(values, narrow).buffer);
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
