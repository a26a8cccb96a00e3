/** What the kernels are compiled with: instruction sets, options, and the compiler of a target. */
import { execFileSync } from 'node:child_process';
import { devNull } from 'node:os';

/** A target is PLATFORM-ARCH, as Node names them. */
export const HOST = `${process.platform}-${process.arch}`;

const AVX2 = ['-mavx2', '-mfma', '-mf16c'];
const VNNI = [...AVX2, '-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni'];
const BF16 = [...VNNI, '-mavx512bf16'];
/** Of each architecture, narrowest first; the position is FLX_LEVEL. */
const INSTRUCTION_SETS = {
  x64: { portable: [], avx2: AVX2, vnni: VNNI, 'vnni-bf16': BF16, amx: [...BF16, '-mamx-tile', '-mamx-int8', '-mamx-bf16'] },
  arm64: { portable: [], 'neon-dotprod': ['-march=armv8.2-a+dotprod'], 'neon-i8mm': ['-march=armv8.2-a+dotprod+i8mm'] },
};
/** Debian's names. */
const CROSS_COMPILERS = { 'linux-arm64': 'aarch64-linux-gnu-g++', 'linux-x64': 'x86_64-linux-gnu-g++' };

export const COMMON_FLAGS = [
  // Every rounding is written in the source; errno and traps of the mathematical functions are not read.
  '-std=c++17 -O3 -fPIC -fvisibility=hidden -pthread -ffp-contract=off -fno-math-errno -fno-trapping-math',
  // GCC 12 takes its own AVX-512 headers for uninitialised.
  '-Wall -Wextra -Werror -Wno-uninitialized -Wno-unknown-warning-option -Wno-maybe-uninitialized',
].flatMap((flags) => flags.split(' '));

/** Options by instruction set, or undefined where there are none of the architecture. */
export const instructionSets = (target) => INSTRUCTION_SETS[target.split('-')[1]];

/** The same options with tiles in plain C++ instead of instructions, whose accesses no sanitizer sees; these run without AMX. */
export const withEmulatedTiles = (flags) => [...new Set(flags.map((flag) => (flag.startsWith('-mamx') ? '-DFLX_EMULATE_TILES' : flag)))];

/** Compilers to try. */
export function compilersFor(target) {
  const known = target === HOST ? ['c++', 'g++', 'clang++'] : [CROSS_COMPILERS[target]];
  return [process.env.CXX, ...known].filter(Boolean);
}

/** The first compiler that is installed. */
export const findCompiler = (target) => compilersFor(target).find((name) => isInstalled(name));

/** Whether a compiler has all these options, and its assembler the instructions of the newest. */
export function knowsFlags(compiler, flags) {
  const source = flags.some((flag) => flag.startsWith('-mamx')) ? 'void f() { __asm__ volatile("tilerelease" ::); }' : '';
  try {
    execFileSync(compiler, [...flags, '-c', '-x', 'c++', '-', '-o', devNull], { input: source, stdio: ['pipe', 'ignore', 'ignore'] });
    return true;
  } catch {
    return false;
  }
}

/** Whether a program can be run. */
export function isInstalled(name) {
  try {
    execFileSync(name, ['--version'], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}

/** @param target of the library */
export function libraryName(target, isa) {
  const extension = { darwin: 'dylib', win32: 'dll' }[target.split('-')[0]] ?? 'so';
  return `libflexllmgen-${isa}.${extension}`;
}
