/**
 * Finds the ggml libraries and picks the CPU variant for this processor. One directory per process: every platform package ships its
 * own `libggml-base`, and two of them in one process would each have half of the state.
 */
import { existsSync, readdirSync } from 'node:fs';
import { createRequire } from 'node:module';
import path from 'node:path';
import koffi from 'koffi';
import { NativeError, UsageError } from '../util/errors.ts';

/** The version of the platform packages that this project is pinned to, and of the ggml inside them. */
export const PACKAGE_VERSION = '3.21.1';
export const GGML_VERSION = '0.23.0';

export type Library = ReturnType<typeof koffi.load>;

export interface LibraryDirectory {
  readonly path: string;
  /** Where it came from, for messages: a package name or an environment variable. */
  readonly origin: string;
}

export interface CpuVariant {
  /** Such as `zen4`; `default` where the package has only one. */
  readonly name: string;
  /** ggml's own score from CPUID; 0 means that this processor cannot run it. */
  readonly score: number;
}

/** Backends beside the CPU, and the platform packages that carry them. */
const GPU_PACKAGES: Readonly<Record<string, Readonly<Record<string, readonly string[]>>>> = {
  vulkan: { 'linux-x64': ['linux-x64-vulkan'], 'win32-x64': ['win-x64-vulkan'] },
  cuda: { 'linux-x64': ['linux-x64-cuda'], 'win32-x64': ['win-x64-cuda'] },
  metal: { 'darwin-arm64': ['mac-arm64-metal'] },
};

const CPU_PACKAGES: Readonly<Record<string, string>> = {
  'linux-x64': 'linux-x64',
  'linux-arm64': 'linux-arm64',
  'darwin-arm64': 'mac-arm64-metal',
  'darwin-x64': 'mac-x64',
  'win32-x64': 'win-x64',
  'win32-arm64': 'win-arm64',
};

const platformKey = `${process.platform}-${process.arch}`;

/** Packages that would carry `backend` (`cpu`, `vulkan`, `cuda`, `metal`) on this platform, best first. */
export function packagesFor(backend: string): readonly string[] {
  const names = backend === 'cpu' ? [CPU_PACKAGES[platformKey] ?? []].flat() : (GPU_PACKAGES[backend]?.[platformKey] ?? []);
  return names.map((name) => `@node-llama-cpp/${name}`);
}

/**
 * Directory of the libraries for a backend: `FLEXLLMGEN_GGML_DIR` if set, else the installed platform package.
 * @throws {UsageError} when the backend does not exist here, {NativeError} listing what was tried and the command that installs it
 */
export function findLibraryDirectory(backend: string): LibraryDirectory {
  const override = process.env['FLEXLLMGEN_GGML_DIR'];
  if (override !== undefined && override !== '') {
    if (existsSync(override)) return { path: path.resolve(override), origin: 'FLEXLLMGEN_GGML_DIR' };
    throw new UsageError(`FLEXLLMGEN_GGML_DIR: no directory ${override}`);
  }
  const packages = packagesFor(backend);
  if (packages.length === 0) throw new UsageError(`backend ${backend}: there is no ggml package with it for ${platformKey}`);
  const installed = installedPackage(packages);
  if (installed) return installed;
  const install = `npm install ${packages[0]}@${PACKAGE_VERSION}`;
  throw new NativeError(`backend ${backend}: ${packages.join(' or ')} is not installed; install it with: ${install}`, { packages });
}

/** Whether a library of the backend is installed; it may still not run here. */
export function hasBackend(backend: string): boolean {
  try {
    return libraryFile(findLibraryDirectory(backend), `ggml-${backend}`) !== '';
  } catch {
    return false;
  }
}

/** The first of these packages that is installed. */
export function installedPackage(packages: readonly string[]): LibraryDirectory | undefined {
  const require = createRequire(import.meta.url);
  for (const name of packages) {
    try {
      const root = path.join(path.dirname(require.resolve(name)), '..');
      return { path: path.join(root, 'bins', name.slice(name.indexOf('/') + 1)), origin: name };
    } catch {
      continue; // not installed
    }
  }
  return undefined;
}

/** By file. Never unloaded: threads may run in them, and the start-up code of ggml-base aborts the process when it runs a second time. */
const loaded = new Map<string, Library>();

/** Loads `ggml-base`, or the backend called `name`, from the directory, once. @throws {NativeError} with the loader's own words */
export function loadLibrary(directory: LibraryDirectory, name: string): Library {
  const file = path.join(directory.path, libraryFile(directory, name));
  const library = loaded.get(file) ?? load(file);
  loaded.set(file, library);
  return library;
}

function libraryFile(directory: LibraryDirectory, name: string): string {
  const pattern = new RegExp(`^(lib)?${name}(\\.v[\\d.]+)?\\.(so|dylib|dll)$`);
  const file = listFiles(directory).find((entry) => pattern.test(entry));
  if (file === undefined) throw new NativeError(`${directory.path} (${directory.origin}): no library ${name}`);
  return file;
}

/** Scores every CPU variant in the directory; best first. Loading a variant that the processor cannot run is safe, running it is not. */
export function listCpuVariants(directory: LibraryDirectory): CpuVariant[] {
  loadLibrary(directory, 'ggml-base'); // stays while variants that need it come and go
  const names = listFiles(directory).flatMap((file) => /^(?:lib)?ggml-cpu(?:-(\w+))?\.(?:so|dylib|dll)$/.exec(file)?.[1] ?? []);
  return names.map((name) => ({ name, score: scoreOf(directory, name) })).toSorted((a, b) => b.score - a.score);
}

/** The variant that suits the processor best, or the one that `FLEXLLMGEN_GGML_CPU` names. */
export function loadCpuLibrary(directory: LibraryDirectory): { library: Library; variant: string } {
  const wanted = process.env['FLEXLLMGEN_GGML_CPU'];
  const variants = listCpuVariants(directory);
  if (variants.length === 0) return { library: loadLibrary(directory, 'ggml-cpu'), variant: 'default' };
  const runnable = variants.filter(({ score }) => score > 0);
  const chosen = wanted ? runnable.find(({ name }) => name === wanted) : runnable[0];
  if (chosen) return { library: loadLibrary(directory, `ggml-cpu-${chosen.name}`), variant: chosen.name };
  const known = runnable.map(({ name }) => name).join(', ');
  if (wanted) throw new UsageError(`FLEXLLMGEN_GGML_CPU: ${wanted} does not run here; this processor runs ${known}`);
  throw new NativeError(`${directory.path}: none of the CPU variants ${variants.map((v) => v.name).join(', ')} runs on this processor`);
}

function scoreOf(directory: LibraryDirectory, name: string): number {
  const library = load(path.join(directory.path, libraryFile(directory, `ggml-cpu-${name}`)));
  try {
    // int ggml_backend_score(void);
    return library.func('ggml_backend_score', 'int', [])() as number;
  } catch {
    return 1; // a package with a single variant has no score
  } finally {
    library.unload();
  }
}

function listFiles(directory: LibraryDirectory): string[] {
  try {
    return readdirSync(directory.path);
  } catch (cause) {
    throw new NativeError(`${directory.path} (${directory.origin}): cannot be listed`, {}, { cause });
  }
}

function load(file: string): Library {
  try {
    return koffi.load(file);
  } catch (cause) {
    throw new NativeError(`${file}: cannot be loaded: ${cause instanceof Error ? cause.message : String(cause)}`, {}, { cause });
  }
}
