import { KV_TYPES, type KvType, type WeightType } from '../src/tensor/dtype.ts';

/**
 * All types that ggml makes of numbers alone. iq2_xxs, iq2_xs and iq1_s need an importance matrix, which we do not make, and iq1_m is of little use without one; tq1_0, tq2_0 and
 * q1_0 are for models that were trained with weights of -1, 0, 1.
 */
export const ACCURACY_WEIGHT_TYPES: readonly WeightType[] = [
  'f32',
  'f16',
  'bf16',
  'q8_0',
  'q6_k',
  'q5_k',
  'q5_1',
  'q5_0',
  'q4_k',
  'q4_1',
  'q4_0',
  'iq4_nl',
  'iq4_xs',
  'mxfp4',
  'nvfp4',
  'q3_k',
  'iq3_s',
  'iq3_xxs',
  'q2_k',
  'iq2_s',
  'q2_0',
];

/** A way to run the model. */
export interface AccuracyCase {
  readonly name: string;
  readonly weights: WeightType;
  readonly compute: 'auto' | 'f32';
  readonly kv: KvType;
  /** Value of FLEXLLMGEN_ISA; empty for our widest kernels. */
  readonly isa: string;
}

/** What all others are compared with. */
export const EXACT_CASE: AccuracyCase = { name: 'exact', weights: 'f32', compute: 'f32', kv: 'f32', isa: '' };

/** Prefix of cache types, to tell them from those of weights. */
const KV_PREFIX = 'kv-';
/** Names of what can be measured alone. */
export const ACCURACY_TYPES: readonly string[] = [...ACCURACY_WEIGHT_TYPES, ...KV_TYPES.map((type) => KV_PREFIX + type)];

/** The cases of some of ACCURACY_TYPES. The cache is f32 where weights are compared, and the other way round. */
export function accuracyCases(types: readonly string[]): readonly AccuracyCase[] {
  return ACCURACY_TYPES.filter((type) => types.includes(type)).flatMap((type): AccuracyCase[] => {
    if (type.startsWith(KV_PREFIX)) return [{ ...EXACT_CASE, name: type, kv: type.slice(KV_PREFIX.length) as KvType }];
    const weights = type as WeightType;
    return [
      { ...EXACT_CASE, name: `${type} f32 arithmetic`, weights },
      { ...EXACT_CASE, name: `${type} own kernels`, weights, compute: 'auto' },
      { ...EXACT_CASE, name: `${type} ggml`, weights, compute: 'auto', isa: 'ggml' },
    ];
  });
}
