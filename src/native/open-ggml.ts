/** Loads the libraries of a backend and checks that they are those that the binding was written for. */
import { NativeError } from '../util/errors.ts';
import { type BackendRegistry, bindBase, GGML_TYPE, type GgmlBase } from './ggml.ts';
import { bindCpu, type GgmlCpu } from './ggml-cpu.ts';
import { findLibraryDirectory, GGML_VERSION, type LibraryDirectory, loadCpuLibrary, loadLibrary } from './libraries.ts';

/** sizeof(struct ggml_tensor) + sizeof(struct ggml_object) in the ggml that this binding was written for. */
const TENSOR_OVERHEAD = 368;
const TYPE_BYTES: Readonly<Record<string, number>> = { f32: 4, f16: 2, i32: 4, bf16: 2 };
/** struct ggml_threadpool_params { bool cpumask[512]; enum prio; uint32_t poll; bool strict_cpu; bool paused; } with n_threads behind cpumask. */
const THREADPOOL_PARAMS = { bytes: 528, threadsOffset: 512, pollOffset: 520 } as const;

/** The libraries of one backend, checked and ready. Lives as long as the process: libraries cannot be unloaded while threads may run. */
export interface Ggml {
  readonly base: GgmlBase;
  /** Only of the CPU backend. */
  readonly cpu?: GgmlCpu;
  readonly registry: BackendRegistry;
  readonly directory: LibraryDirectory;
  /** Products and attention of f32 are never rounded below f32. */
  readonly exact: boolean;
  /** Such as `cpu zen4` or `vulkan`. */
  readonly name: string;
}

/** By backend and directory: starting a backend again would bind every function and score every variant again. */
const opened = new Map<string, Ggml>();

/** Makes ggml's Vulkan backend multiply f32 as f32 instead of f16. It is read once, before the first device starts. */
const VULKAN_EXACT = 'GGML_VK_DISABLE_F16';

/**
 * `exact` asks a backend that rounds f32 to f16 where that is faster not to. It holds for the whole process from the first start on.
 * @throws {NativeError} when the libraries are another version than this binding was written for, or when the backend started inexact before
 */
export function openGgml(backend: string, directory: LibraryDirectory, exact = false): Ggml {
  const key = `${backend} ${directory.path}`;
  const ggml = opened.get(key) ?? startGgml(backend, directory, exact);
  opened.set(key, ggml);
  if (exact && backend === 'vulkan' && !ggml.exact) {
    throw new NativeError(
      `backend vulkan: rounds f32 to f16 since a model was loaded without compute f32; load this one in another process`,
    );
  }
  return ggml;
}

/** The library that all backends share: that of a backend that has started, else that of the CPU package. @throws {NativeError} as `openGgml` */
export function openBase(): GgmlBase {
  const [first] = opened.values();
  return (first ?? openGgml('cpu', findLibraryDirectory('cpu'))).base;
}

/** The functions of the CPU backend, started if it has not been. @throws {NativeError} as `openGgml` */
export function openCpu(): GgmlCpu {
  return openGgml('cpu', findLibraryDirectory('cpu')).cpu!;
}

function startGgml(backend: string, directory: LibraryDirectory, exact: boolean): Ggml {
  if (exact && backend === 'vulkan') process.env[VULKAN_EXACT] = '1';
  const base = bindBase(loadLibrary(directory, 'ggml-base'));
  checkVersion(base, directory);
  const { library, variant } =
    backend === 'cpu' ? loadCpuLibrary(directory) : { library: loadLibrary(directory, `ggml-${backend}`), variant: '' };
  // ggml_backend_reg_t ggml_backend_init(void);
  const registry = (library.func('ggml_backend_init', 'void*', []) as () => BackendRegistry | null)();
  if (!registry) throw new NativeError(`backend ${backend} (${directory.origin}): did not start; is its driver installed?`);
  if (base.regDeviceCount(registry) === 0) throw new NativeError(`backend ${backend} (${directory.origin}): found no device`);
  const name = variant ? `${backend} ${variant}` : backend;
  const isExact = backend === 'cpu' || (backend === 'vulkan' && process.env[VULKAN_EXACT] !== undefined);
  return { base, registry, directory, exact: isExact, name, ...(backend === 'cpu' && { cpu: bindCpu(library) }) };
}

/** Threadpool parameters in native layout. `poll` 0 to 100: how long idle threads spin before they sleep. */
export function threadpoolParams(base: GgmlBase, threads: number, poll: number): Uint8Array {
  const bytes = new Uint8Array(THREADPOOL_PARAMS.bytes);
  base.threadpoolParamsInit(bytes, threads);
  new DataView(bytes.buffer).setUint32(THREADPOOL_PARAMS.pollOffset, poll, true);
  return bytes;
}

function checkVersion(base: GgmlBase, directory: LibraryDirectory): void {
  const fail = (what: string, expected: unknown, got: unknown): never => {
    throw new NativeError(`ggml in ${directory.path} (${directory.origin}): ${what} ${String(expected)} expected, got ${String(got)}`);
  };
  if (base.version() !== GGML_VERSION) fail('version', GGML_VERSION, base.version());
  if (base.tensorOverhead() !== TENSOR_OVERHEAD) fail('tensor overhead in bytes', TENSOR_OVERHEAD, base.tensorOverhead());
  for (const [name, id] of Object.entries(GGML_TYPE)) {
    if (base.typeName(id).toLowerCase() !== name) fail(`name of type ${id}`, name, base.typeName(id));
    const bytes = TYPE_BYTES[name] ?? base.typeSize(id);
    if (base.typeSize(id) !== bytes) fail(`bytes of type ${name}`, bytes, base.typeSize(id));
  }
  const params = new Uint8Array(THREADPOOL_PARAMS.bytes);
  base.threadpoolParamsInit(params, 7);
  const threads = new DataView(params.buffer).getInt32(THREADPOOL_PARAMS.threadsOffset, true);
  if (threads !== 7) fail('threads in ggml_threadpool_params', 7, threads);
}
