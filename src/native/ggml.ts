/**
 * The part of ggml's C interface that we call, one function each, with its C prototype above it. Nothing else in the project touches
 * the native side. ggml asserts abort the process, so callers check shapes, types and alignment first.
 */
import koffi from 'koffi';
import type { Library } from './libraries.ts';

declare const kind: unique symbol;
/** Address of a native object. Kinds are kept apart by the compiler only. */
export type Pointer<Kind extends string> = bigint & { readonly [kind]: Kind };
export type Context = Pointer<'ggml_context'>;
export type TensorPointer = Pointer<'ggml_tensor'>;
export type Graph = Pointer<'ggml_cgraph'>;
export type Backend = Pointer<'ggml_backend'>;
export type BackendDevice = Pointer<'ggml_backend_dev'>;
export type BackendRegistry = Pointer<'ggml_backend_reg'>;
export type Buffer = Pointer<'ggml_backend_buffer'>;
export type BufferType = Pointer<'ggml_backend_buffer_type'>;
export type GraphAllocator = Pointer<'ggml_gallocr'>;
export type ThreadPool = Pointer<'ggml_threadpool'>;

/** enum ggml_type, the values that we use, in small letters; checked against ggml_type_name at load. */
export const GGML_TYPE = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q5_0: 6,
  q5_1: 7,
  q8_0: 8,
  q2_k: 10,
  q3_k: 11,
  q4_k: 12,
  q5_k: 13,
  q6_k: 14,
  iq2_xxs: 16,
  iq2_xs: 17,
  iq3_xxs: 18,
  iq1_s: 19,
  iq4_nl: 20,
  iq3_s: 21,
  iq2_s: 22,
  iq4_xs: 23,
  i32: 26,
  i64: 27,
  iq1_m: 29,
  bf16: 30,
  tq1_0: 34,
  tq2_0: 35,
  mxfp4: 39,
  nvfp4: 40,
  q1_0: 41,
  q2_0: 42,
} as const;
/** GGML_STATUS_SUCCESS */
export const STATUS_SUCCESS = 0;

const P = 'void*';

const initParams = koffi.struct({ mem_size: 'size_t', mem_buffer: P, no_alloc: 'bool' });

// oxlint-disable-next-line max-lines-per-function -- one entry a function, in the order of the headers
export function bindBase(lib: Library) {
  const bind = <F>(name: string, result: string, parameters: unknown[]): F => lib.func(name, result, parameters as never) as unknown as F;
  type T = TensorPointer;
  return {
    // --- ggml.h
    // const char * ggml_version(void);
    version: bind<() => string>('ggml_version', 'str', []),
    // size_t ggml_tensor_overhead(void);
    tensorOverhead: bind<() => number>('ggml_tensor_overhead', 'size_t', []),
    // size_t ggml_graph_overhead_custom(size_t size, bool grads);
    graphOverhead: bind<(size: number, grads: boolean) => number>('ggml_graph_overhead_custom', 'size_t', ['size_t', 'bool']),
    // const char * ggml_type_name(enum ggml_type type);
    typeName: bind<(type: number) => string>('ggml_type_name', 'str', ['int']),
    // size_t ggml_type_size(enum ggml_type type);
    typeSize: bind<(type: number) => number>('ggml_type_size', 'size_t', ['int']),
    // const struct ggml_type_traits * ggml_get_type_traits(enum ggml_type type);
    typeTraits: bind<(type: number) => Pointer<'ggml_type_traits'>>('ggml_get_type_traits', P, ['int']),
    // size_t ggml_quantize_chunk(enum ggml_type type, const float * src, void * dst, int64_t start, int64_t nrows, int64_t n_per_row,
    //     const float * imatrix);
    quantizeChunk: bind<AsyncCall<[number, Float32Array, Uint8Array, number, number, number, null], number>>(
      'ggml_quantize_chunk',
      'size_t',
      ['int', P, P, 'int64', 'int64', 'int64', P],
    ),
    // bool ggml_validate_row_data(enum ggml_type type, const void * data, size_t nbytes);
    validateRowData: bind<AsyncCall<[number, Uint8Array, number], boolean>>('ggml_validate_row_data', 'bool', ['int', P, 'size_t']),
    // struct ggml_context * ggml_init(struct ggml_init_params params);
    init: bind<(params: { mem_size: number; mem_buffer: null; no_alloc: boolean }) => Context>('ggml_init', P, [initParams]),
    // void ggml_free(struct ggml_context * ctx);
    free: bind<(ctx: Context) => void>('ggml_free', 'void', [P]),
    // struct ggml_tensor * ggml_new_tensor_1d(struct ggml_context * ctx, enum ggml_type type, int64_t ne0);
    newTensor1d: bind<(ctx: Context, type: number, ne0: number) => T>('ggml_new_tensor_1d', P, [P, 'int', 'int64']),
    // struct ggml_tensor * ggml_new_tensor_2d(struct ggml_context * ctx, enum ggml_type type, int64_t ne0, int64_t ne1);
    newTensor2d: bind<(ctx: Context, type: number, ne0: number, ne1: number) => T>('ggml_new_tensor_2d', P, [P, 'int', 'int64', 'int64']),
    // struct ggml_tensor * ggml_add(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    add: bind<(ctx: Context, a: T, b: T) => T>('ggml_add', P, [P, P, P]),
    // struct ggml_tensor * ggml_mul(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    mul: bind<(ctx: Context, a: T, b: T) => T>('ggml_mul', P, [P, P, P]),
    // struct ggml_tensor * ggml_concat(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b, int dim);
    concat: bind<(ctx: Context, a: T, b: T, dim: number) => T>('ggml_concat', P, [P, P, P, 'int']),
    // struct ggml_tensor * ggml_clamp(struct ggml_context * ctx, struct ggml_tensor * a, float min, float max);
    clamp: bind<(ctx: Context, a: T, min: number, max: number) => T>('ggml_clamp', P, [P, P, 'float', 'float']),
    // struct ggml_tensor * ggml_gelu_erf(struct ggml_context * ctx, struct ggml_tensor * a);
    geluErf: bind<(ctx: Context, a: T) => T>('ggml_gelu_erf', P, [P, P]),
    // struct ggml_tensor * ggml_norm(struct ggml_context * ctx, struct ggml_tensor * a, float eps);
    norm: bind<(ctx: Context, a: T, eps: number) => T>('ggml_norm', P, [P, P, 'float']),
    // struct ggml_tensor * ggml_rms_norm(struct ggml_context * ctx, struct ggml_tensor * a, float eps);
    rmsNorm: bind<(ctx: Context, a: T, eps: number) => T>('ggml_rms_norm', P, [P, P, 'float']),
    // struct ggml_tensor * ggml_scale_bias(struct ggml_context * ctx, struct ggml_tensor * a, float s, float b);
    scaleBias: bind<(ctx: Context, a: T, scale: number, bias: number) => T>('ggml_scale_bias', P, [P, P, 'float', 'float']),
    // struct ggml_tensor * ggml_silu(struct ggml_context * ctx, struct ggml_tensor * a);
    silu: bind<(ctx: Context, a: T) => T>('ggml_silu', P, [P, P]),
    // struct ggml_tensor * ggml_sigmoid(struct ggml_context * ctx, struct ggml_tensor * a);
    sigmoid: bind<(ctx: Context, a: T) => T>('ggml_sigmoid', P, [P, P]),
    // struct ggml_tensor * ggml_tanh(struct ggml_context * ctx, struct ggml_tensor * a);
    tanh: bind<(ctx: Context, a: T) => T>('ggml_tanh', P, [P, P]),
    // struct ggml_tensor * ggml_rope_ext(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b, struct ggml_tensor * c,
    //     int n_dims, int mode, int n_ctx_orig, float freq_base, float freq_scale, float ext_factor, float attn_factor, float beta_fast, float beta_slow);
    ropeExt: bind<
      (
        ctx: Context,
        a: T,
        positions: T,
        divisors: T,
        dims: number,
        mode: number,
        originalContext: number,
        base: number,
        scale: number,
        extrapolation: number,
        factor: number,
        betaFast: number,
        betaSlow: number,
      ) => T
    >('ggml_rope_ext', P, [P, P, P, P, 'int', 'int', 'int', 'float', 'float', 'float', 'float', 'float', 'float']),
    // struct ggml_tensor * ggml_mul_mat(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    mulMat: bind<(ctx: Context, a: T, b: T) => T>('ggml_mul_mat', P, [P, P, P]),
    // struct ggml_tensor * ggml_mul_mat_id(struct ggml_context * ctx, struct ggml_tensor * as, struct ggml_tensor * b, struct ggml_tensor * ids);
    mulMatId: bind<(ctx: Context, as: T, b: T, ids: T) => T>('ggml_mul_mat_id', P, [P, P, P, P]),
    // struct ggml_tensor * ggml_soft_max(struct ggml_context * ctx, struct ggml_tensor * a);
    softMax: bind<(ctx: Context, a: T) => T>('ggml_soft_max', P, [P, P]),
    // struct ggml_tensor * ggml_argsort_top_k(struct ggml_context * ctx, struct ggml_tensor * a, int k);
    argsortTopK: bind<(ctx: Context, a: T, k: number) => T>('ggml_argsort_top_k', P, [P, P, 'int']),
    // struct ggml_tensor * ggml_sum_rows(struct ggml_context * ctx, struct ggml_tensor * a);
    sumRows: bind<(ctx: Context, a: T) => T>('ggml_sum_rows', P, [P, P]),
    // struct ggml_tensor * ggml_div(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    div: bind<(ctx: Context, a: T, b: T) => T>('ggml_div', P, [P, P, P]),
    // struct ggml_tensor * ggml_cpy(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    cpy: bind<(ctx: Context, a: T, b: T) => T>('ggml_cpy', P, [P, P, P]),
    // struct ggml_tensor * ggml_cont(struct ggml_context * ctx, struct ggml_tensor * a);
    cont: bind<(ctx: Context, a: T) => T>('ggml_cont', P, [P, P]),
    // struct ggml_tensor * ggml_reshape_2d(struct ggml_context * ctx, struct ggml_tensor * a, int64_t ne0, int64_t ne1);
    reshape2d: bind<(ctx: Context, a: T, ne0: number, ne1: number) => T>('ggml_reshape_2d', P, [P, P, 'int64', 'int64']),
    // struct ggml_tensor * ggml_reshape_4d(struct ggml_context * ctx, struct ggml_tensor * a, int64_t ne0, int64_t ne1, int64_t ne2, int64_t ne3);
    reshape4d: bind<(ctx: Context, a: T, ne0: number, ne1: number, ne2: number, ne3: number) => T>('ggml_reshape_4d', P, [
      P,
      P,
      'int64',
      'int64',
      'int64',
      'int64',
    ]),
    // struct ggml_tensor * ggml_view_2d(struct ggml_context * ctx, struct ggml_tensor * a, int64_t ne0, int64_t ne1, size_t nb1, size_t offset);
    view2d: bind<(ctx: Context, a: T, ne0: number, ne1: number, nb1: number, offset: number) => T>('ggml_view_2d', P, [
      P,
      P,
      'int64',
      'int64',
      'size_t',
      'size_t',
    ]),
    // struct ggml_tensor * ggml_permute(struct ggml_context * ctx, struct ggml_tensor * a, int axis0, int axis1, int axis2, int axis3);
    permute: bind<(ctx: Context, a: T, axis0: number, axis1: number, axis2: number, axis3: number) => T>('ggml_permute', P, [
      P,
      P,
      'int',
      'int',
      'int',
      'int',
    ]),
    // struct ggml_tensor * ggml_get_rows(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b);
    getRows: bind<(ctx: Context, a: T, b: T) => T>('ggml_get_rows', P, [P, P, P]),
    // struct ggml_tensor * ggml_set_rows(struct ggml_context * ctx, struct ggml_tensor * a, struct ggml_tensor * b, struct ggml_tensor * c);
    setRows: bind<(ctx: Context, a: T, b: T, c: T) => T>('ggml_set_rows', P, [P, P, P, P]),
    // struct ggml_tensor * ggml_flash_attn_ext(struct ggml_context * ctx, struct ggml_tensor * q, struct ggml_tensor * k, struct ggml_tensor * v,
    //     struct ggml_tensor * mask, float scale, float max_bias, float logit_softcap);
    flashAttention: bind<(ctx: Context, q: T, k: T, v: T, mask: T, scale: number, maxBias: number, softcap: number) => T>(
      'ggml_flash_attn_ext',
      P,
      [P, P, P, P, P, 'float', 'float', 'float'],
    ),
    // void ggml_flash_attn_ext_set_prec(struct ggml_tensor * a, enum ggml_prec prec);
    flashAttentionSetPrecision: bind<(a: T, precision: number) => void>('ggml_flash_attn_ext_set_prec', 'void', [P, 'int']),
    // struct ggml_cgraph * ggml_new_graph_custom(struct ggml_context * ctx, size_t size, bool grads);
    newGraph: bind<(ctx: Context, size: number, grads: boolean) => Graph>('ggml_new_graph_custom', P, [P, 'size_t', 'bool']),
    // void ggml_build_forward_expand(struct ggml_cgraph * cgraph, struct ggml_tensor * tensor);
    expand: bind<(graph: Graph, t: T) => void>('ggml_build_forward_expand', 'void', [P, P]),
    // int ggml_graph_n_nodes(struct ggml_cgraph * cgraph);
    graphNodeCount: bind<(graph: Graph) => number>('ggml_graph_n_nodes', 'int', [P]),
    // struct ggml_tensor * ggml_graph_node(struct ggml_cgraph * cgraph, int i);
    graphNode: bind<(graph: Graph, i: number) => T>('ggml_graph_node', P, [P, 'int']),
    // const char * ggml_op_desc(const struct ggml_tensor * t);
    opName: bind<(t: T) => string>('ggml_op_desc', 'str', [P]),
    // void ggml_threadpool_params_init(struct ggml_threadpool_params * p, int n_threads);
    threadpoolParamsInit: bind<(params: Uint8Array, threads: number) => void>('ggml_threadpool_params_init', 'void', [P, 'int']),

    // --- ggml-alloc.h
    // ggml_gallocr_t ggml_gallocr_new(ggml_backend_buffer_type_t buft);
    gallocrNew: bind<(type: BufferType) => GraphAllocator>('ggml_gallocr_new', P, [P]),
    // void ggml_gallocr_free(ggml_gallocr_t galloc);
    gallocrFree: bind<(galloc: GraphAllocator) => void>('ggml_gallocr_free', 'void', [P]),
    // bool ggml_gallocr_alloc_graph(ggml_gallocr_t galloc, struct ggml_cgraph * graph);
    gallocrAllocGraph: bind<(galloc: GraphAllocator, graph: Graph) => boolean>('ggml_gallocr_alloc_graph', 'bool', [P, P]),
    // size_t ggml_gallocr_get_buffer_size(ggml_gallocr_t galloc, int buffer_id);
    gallocrBufferSize: bind<(galloc: GraphAllocator, buffer: number) => number>('ggml_gallocr_get_buffer_size', 'size_t', [P, 'int']),
    // struct ggml_backend_buffer * ggml_backend_alloc_ctx_tensors(struct ggml_context * ctx, ggml_backend_t backend);
    allocContextTensors: bind<(ctx: Context, backend: Backend) => Buffer | null>('ggml_backend_alloc_ctx_tensors', P, [P, P]),

    // --- ggml-backend.h
    // ggml_backend_buffer_t ggml_backend_buft_alloc_buffer(ggml_backend_buffer_type_t buft, size_t size);
    allocBuffer: bind<(type: BufferType, bytes: number) => Buffer | null>('ggml_backend_buft_alloc_buffer', P, [P, 'size_t']),
    // size_t ggml_backend_buft_get_max_size(ggml_backend_buffer_type_t buft);
    maxBufferSize: bind<(type: BufferType) => number | bigint>('ggml_backend_buft_get_max_size', 'size_t', [P]),
    // size_t ggml_backend_buft_get_alignment(ggml_backend_buffer_type_t buft);
    bufferTypeAlignment: bind<(type: BufferType) => number>('ggml_backend_buft_get_alignment', 'size_t', [P]),
    // size_t ggml_backend_buft_get_alloc_size(ggml_backend_buffer_type_t buft, const struct ggml_tensor * tensor);
    allocSize: bind<(type: BufferType, t: T) => number>('ggml_backend_buft_get_alloc_size', 'size_t', [P, P]),
    // enum ggml_status ggml_backend_tensor_alloc(ggml_backend_buffer_t buffer, struct ggml_tensor * tensor, void * addr);
    tensorAlloc: bind<(buffer: Buffer, t: T, address: bigint) => number>('ggml_backend_tensor_alloc', 'int', [P, P, P]),
    // enum ggml_status ggml_backend_buffer_init_tensor(ggml_backend_buffer_t buffer, struct ggml_tensor * tensor);
    initTensor: bind<(buffer: Buffer, t: T) => number>('ggml_backend_buffer_init_tensor', 'int', [P, P]),
    // ggml_backend_buffer_type_t ggml_backend_cpu_buffer_type(void);
    cpuBufferType: bind<() => BufferType>('ggml_backend_cpu_buffer_type', P, []),
    // ggml_backend_buffer_type_t ggml_backend_dev_host_buffer_type(ggml_backend_dev_t device);
    hostBufferType: bind<(device: BackendDevice) => BufferType | null>('ggml_backend_dev_host_buffer_type', P, [P]),
    // enum ggml_backend_dev_type ggml_backend_dev_type(ggml_backend_dev_t device);
    deviceType: bind<(device: BackendDevice) => number>('ggml_backend_dev_type', 'int', [P]),
    // size_t ggml_backend_buffer_get_size(ggml_backend_buffer_t buffer);
    bufferSize: bind<(buffer: Buffer) => number>('ggml_backend_buffer_get_size', 'size_t', [P]),
    // void * ggml_backend_buffer_get_base(ggml_backend_buffer_t buffer);
    bufferBase: bind<(buffer: Buffer) => Pointer<'memory'>>('ggml_backend_buffer_get_base', P, [P]),
    // void ggml_backend_buffer_clear(ggml_backend_buffer_t buffer, uint8_t value);
    bufferClear: bind<(buffer: Buffer, value: number) => void>('ggml_backend_buffer_clear', 'void', [P, 'uint8']),
    // void ggml_backend_buffer_free(ggml_backend_buffer_t buffer);
    bufferFree: bind<(buffer: Buffer) => void>('ggml_backend_buffer_free', 'void', [P]),
    // size_t ggml_backend_get_alignment(ggml_backend_t backend);
    alignment: bind<(backend: Backend) => number>('ggml_backend_get_alignment', 'size_t', [P]),
    // ggml_backend_dev_t ggml_backend_get_device(ggml_backend_t backend);
    backendDevice: bind<(backend: Backend) => BackendDevice>('ggml_backend_get_device', P, [P]),
    // ggml_backend_buffer_type_t ggml_backend_get_default_buffer_type(ggml_backend_t backend);
    defaultBufferType: bind<(backend: Backend) => BufferType>('ggml_backend_get_default_buffer_type', P, [P]),
    // void ggml_backend_tensor_set(struct ggml_tensor * tensor, const void * data, size_t offset, size_t size);
    tensorSet: bind<AsyncCall<[t: T, data: Uint8Array, offset: number, size: number], void>>('ggml_backend_tensor_set', 'void', [
      P,
      P,
      'size_t',
      'size_t',
    ]),
    // void ggml_backend_tensor_get(const struct ggml_tensor * tensor, void * data, size_t offset, size_t size);
    tensorGet: bind<(t: T, data: Uint8Array, offset: number, size: number) => void>('ggml_backend_tensor_get', 'void', [
      P,
      P,
      'size_t',
      'size_t',
    ]),
    // enum ggml_status ggml_backend_graph_compute(ggml_backend_t backend, struct ggml_cgraph * cgraph);
    graphCompute: bind<AsyncCall<[Backend, Graph], number>>('ggml_backend_graph_compute', 'int', [P, P]),
    // const char * ggml_status_to_string(enum ggml_status status);
    statusText: bind<(status: number) => string>('ggml_status_to_string', 'str', ['int']),
    // void ggml_backend_free(ggml_backend_t backend);
    backendFree: bind<(backend: Backend) => void>('ggml_backend_free', 'void', [P]),
    // ggml_backend_dev_t ggml_backend_reg_dev_get(ggml_backend_reg_t reg, size_t index);
    regDevice: bind<(reg: BackendRegistry, index: number) => BackendDevice>('ggml_backend_reg_dev_get', P, [P, 'size_t']),
    // size_t ggml_backend_reg_dev_count(ggml_backend_reg_t reg);
    regDeviceCount: bind<(reg: BackendRegistry) => number>('ggml_backend_reg_dev_count', 'size_t', [P]),
    // const char * ggml_backend_dev_description(ggml_backend_dev_t device);
    deviceDescription: bind<(device: BackendDevice) => string>('ggml_backend_dev_description', 'str', [P]),
    // void ggml_backend_dev_memory(ggml_backend_dev_t device, size_t * free, size_t * total);
    deviceMemory: bind<(device: BackendDevice, free: BigUint64Array, total: BigUint64Array) => void>('ggml_backend_dev_memory', 'void', [
      P,
      P,
      P,
    ]),
    // bool ggml_backend_dev_supports_op(ggml_backend_dev_t device, const struct ggml_tensor * op);
    deviceSupportsOp: bind<(device: BackendDevice, op: T) => boolean>('ggml_backend_dev_supports_op', 'bool', [P, P]),
    // ggml_backend_t ggml_backend_dev_init(ggml_backend_dev_t device, const char * params);
    deviceInit: bind<(device: BackendDevice, params: null) => Backend | null>('ggml_backend_dev_init', P, [P, 'str']),
  };
}

/** A bound function that also runs on one of libuv's threads. */
export interface AsyncCall<A extends unknown[], R> {
  (...parameters: A): R;
  async(...parameters: [...A, (error: Error | null, result: R) => void]): void;
}

export type GgmlBase = ReturnType<typeof bindBase>;
