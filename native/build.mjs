/**
 * Compiles the kernels: one shared library for each instruction set, into native/build/PLATFORM-ARCH. Without a C++ compiler it says so and
 * succeeds: everything works without them. `--sanitize` compiles with AddressSanitizer and UBSan into another folder.
 */
import { execFile, execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';

const here = dirname(fileURLToPath(import.meta.url));
const sanitize = process.argv.includes('--sanitize');

const AVX2 = ['-mavx2', '-mfma', '-mf16c'];
const VNNI = [...AVX2, '-mavx512f', '-mavx512bw', '-mavx512vl', '-mavx512dq', '-mavx512vnni'];
/** Narrowest first; the position is FLX_LEVEL. */
const INSTRUCTION_SETS = {
  x64: { portable: [], avx2: AVX2, vnni: VNNI, 'vnni-bf16': [...VNNI, '-mavx512bf16'] },
  arm64: { portable: [] },
};
const COMMON = [
  // Every rounding is written in the source; errno and traps of the mathematical functions are not read.
  '-std=c++17 -O3 -fPIC -fvisibility=hidden -pthread -ffp-contract=off -fno-math-errno -fno-trapping-math',
  // GCC 12 takes its own AVX-512 headers for uninitialised.
  '-Wall -Wextra -Werror -Wno-uninitialized -Wno-unknown-warning-option -Wno-maybe-uninitialized',
  sanitize ? '-g -fsanitize=address,undefined -fno-sanitize-recover=all' : '',
].flatMap((flags) => flags.split(' ').filter(Boolean));
const EXTENSION = { darwin: 'dylib', win32: 'dll' }[process.platform] ?? 'so';

const sets = INSTRUCTION_SETS[process.arch];
const compiler = sets && findCompiler();
if (!compiler) {
  console.warn(
    `flexllmgen: no C++ compiler found (set CXX): products run on ggml's kernels, which are several times slower for large batches`,
  );
} else {
  await build();
}

/** A compiler that takes the options above. */
function findCompiler() {
  return [process.env.CXX, 'c++', 'g++', 'clang++'].find((name) => {
    try {
      return name && execFileSync(name, ['--version'], { stdio: ['ignore', 'pipe', 'ignore'] });
    } catch {
      return false;
    }
  });
}

async function build() {
  const folder = join(here, 'build', `${process.platform}-${process.arch}${sanitize ? '-sanitize' : ''}`);
  const stamp = join(folder, 'stamp');
  const sources = readdirSync(join(here, 'src')).map((name) => join(here, 'src', name));
  const hash = createHash('sha256').update([compiler, ...COMMON].join(' '));
  for (const file of [fileURLToPath(import.meta.url), join(here, 'flexllmgen.h'), ...sources]) hash.update(readFileSync(file));
  const wanted = hash.digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  mkdirSync(folder, { recursive: true });
  rmSync(stamp, { force: true });
  for (const [level, [name, flags]] of Object.entries(sets).entries()) await buildOne(folder, name, level, flags, sources);
  writeFileSync(stamp, wanted);
}

async function buildOne(folder, name, level, flags, sources) {
  const defines = [`-DFLX_ISA="${name}"`, `-DFLX_LEVEL=${level}`];
  const objects = [];
  const files = sources.filter((file) => file.endsWith('.cpp'));
  const compile = async (file) => {
    const object = join(folder, `${name}-${objects.length}.o`);
    objects.push(object);
    // What asks the processor what it has must run on every one.
    const own = file.endsWith('supported.cpp') ? [] : flags;
    await promisify(execFile)(compiler, [...COMMON, ...defines, ...own, '-c', file, '-o', object]);
  };
  const queue = [...files];
  const work = async () => {
    for (let file = queue.pop(); file; file = queue.pop()) await compile(file);
  };
  await Promise.all([work(), work()]);
  const library = join(folder, `libflexllmgen-${name}.${EXTENSION}`);
  const isStatic = process.platform === 'linux' && !sanitize ? ['-static-libstdc++', '-static-libgcc'] : [];
  const part = `${library}.part`;
  await promisify(execFile)(compiler, [
    '-shared',
    '-pthread',
    ...COMMON.filter((flag) => flag.startsWith('-fsan')),
    ...isStatic,
    ...objects,
    '-o',
    part,
  ]);
  renameSync(part, library);
  for (const object of objects) rmSync(object);
}
