/** How ggml stores an element type, and its own function that turns such elements into f32. */
import koffi from 'koffi';
import type { AsyncCall, GgmlBase } from './ggml.ts';

// struct ggml_type_traits { const char * type_name; int64_t blck_size; int64_t blck_size_interleave; size_t type_size; bool is_quantized;
//     ggml_to_float_t to_float; ggml_from_float_t from_float_ref; };
const typeTraits = koffi.struct({
  type_name: 'const char*',
  blck_size: 'int64',
  blck_size_interleave: 'int64',
  type_size: 'size_t',
  is_quantized: 'bool',
  to_float: 'void*',
  from_float_ref: 'void*',
});
// typedef void (*ggml_to_float_t)(const void * x, float * y, int64_t k);
const toFloat = koffi.proto('void (const void* x, void* y, int64 k)');

export interface TypeTraits {
  readonly name: string;
  /** Elements that are stored together. */
  readonly blockElements: number;
  readonly blockBytes: number;
  /** Exact. `count` is a multiple of `blockElements`. Missing for types that are no floats. */
  readonly toFloat?: AsyncCall<[source: Uint8Array, target: Float32Array, count: number], void>;
}

/** `type` is a value of GGML_TYPE. */
export function readTypeTraits(base: GgmlBase, type: number): TypeTraits {
  const traits = koffi.decode(base.typeTraits(type), typeTraits) as {
    readonly type_name: string;
    readonly blck_size: number;
    readonly type_size: number;
    readonly to_float: bigint | null;
  };
  return {
    name: traits.type_name,
    blockElements: traits.blck_size,
    blockBytes: traits.type_size,
    ...(traits.to_float && { toFloat: koffi.decode(traits.to_float, toFloat) as NonNullable<TypeTraits['toFloat']> }),
  };
}

/** Address of that function, for kernels. Null for types that are no floats. */
export function toFloatAddress(base: GgmlBase, type: number): bigint | null {
  return (koffi.decode(base.typeTraits(type), typeTraits) as { readonly to_float: bigint | null }).to_float;
}
