/** The part of ggml's CPU backend that we call, with its C prototypes. */
import type { AsyncCall, Backend, ThreadPool } from './ggml.ts';
import type { Library } from './libraries.ts';

const P = 'void*';

export function bindCpu(lib: Library) {
  return {
    // struct ggml_threadpool * ggml_threadpool_new(struct ggml_threadpool_params * params);
    threadpoolNew: lib.func('ggml_threadpool_new', P, [P]) as (params: Uint8Array) => ThreadPool | null,
    // void ggml_threadpool_free(struct ggml_threadpool * threadpool);
    threadpoolFree: lib.func('ggml_threadpool_free', 'void', [P]) as (pool: ThreadPool) => void,
    // void ggml_backend_cpu_set_n_threads(ggml_backend_t backend_cpu, int n_threads);
    setThreads: lib.func('ggml_backend_cpu_set_n_threads', 'void', [P, 'int']) as (backend: Backend, threads: number) => void,
    // void ggml_backend_cpu_set_threadpool(ggml_backend_t backend_cpu, ggml_threadpool_t threadpool);
    setThreadpool: lib.func('ggml_backend_cpu_set_threadpool', 'void', [P, P]) as (backend: Backend, pool: ThreadPool) => void,
    ...bindRowQuantizer(lib),
  };
}

/** Not all libraries export it: it is a part of ggml, but not of its interface. */
function bindRowQuantizer(lib: Library): { quantizeRowQ8?: AsyncCall<[Float32Array, Uint8Array, number], void> } {
  try {
    // void quantize_row_q8_0(const float * x, void * y, int64_t k);
    return { quantizeRowQ8: lib.func('quantize_row_q8_0', 'void', [P, P, 'int64']) };
  } catch {
    return {};
  }
}

export type GgmlCpu = ReturnType<typeof bindCpu>;
