/**
 * Compiles the kernels: one shared library for each instruction set, into native/build/PLATFORM-ARCH. Without a C++ compiler it says so and
 * succeeds: everything works without them. `--target linux-arm64` compiles for another machine, and fails without a compiler for it. `--sanitize`
 * compiles with AddressSanitizer and UBSan into another folder.
 */
import { execFile } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { parseArgs, promisify } from 'node:util';
import {
  COMMON_FLAGS,
  compilersFor,
  findCompiler,
  HOST,
  instructionSets,
  knowsFlags,
  libraryName,
  withEmulatedTiles,
} from './toolchain.mjs';

const here = dirname(fileURLToPath(import.meta.url));
const { sanitize, target } = parseArgs({
  options: { sanitize: { type: 'boolean', default: false }, target: { type: 'string', default: HOST } },
}).values;

const SANITIZERS = sanitize ? ['-fsanitize=address,undefined'] : [];
/** With -O3 the sanitizers' checks of unrolled kernels compile for minutes; the last -O counts. */
const COMMON = [...COMMON_FLAGS, ...(sanitize ? ['-O1', '-g', ...SANITIZERS, '-fno-sanitize-recover=all'] : [])];

/** All their code, but for the loop of `dpbf16`, is in the widest library too: sanitized, each takes minutes to compile and to test. */
const CONTAINED = new Set(['vnni', 'vnni-bf16']);

const sets = instructionSets(target);
const compiler = sets && findCompiler(target);
if (compiler) {
  await build();
} else if (target === HOST) {
  console.warn(
    `flexllmgen: no C++ compiler found (set CXX): products run on ggml's kernels, which are several times slower for large batches`,
  );
} else {
  const names = compilersFor(target).join(', ');
  console.error(sets ? `flexllmgen: no C++ compiler for ${target} found: ${names} (or set CXX)` : `flexllmgen: no kernels for ${target}`);
  process.exitCode = 1;
}

async function build() {
  const folder = join(here, 'build', `${target}${sanitize ? '-sanitize' : ''}`);
  const stamp = join(folder, 'stamp');
  const sources = readdirSync(join(here, 'src')).map((name) => join(here, 'src', name));
  const hash = createHash('sha256').update([compiler, ...COMMON].join(' '));
  for (const file of [fileURLToPath(import.meta.url), join(here, 'toolchain.mjs'), join(here, 'flexllmgen.h'), ...sources])
    hash.update(readFileSync(file));
  const wanted = hash.digest('hex');
  if (existsSync(stamp) && readFileSync(stamp, 'utf8') === wanted) return;
  mkdirSync(folder, { recursive: true });
  rmSync(stamp, { force: true });
  for (const [level, [name, all]] of Object.entries(sets).entries()) {
    const flags = sanitize ? withEmulatedTiles(all) : all;
    const isLeftOut = sanitize && CONTAINED.has(name);
    if (!isLeftOut && knowsFlags(compiler, flags)) {
      await buildOne(folder, name, level, flags, sources);
      continue;
    }
    if (!isLeftOut) console.warn(`flexllmgen: no kernels for ${name}: ${compiler} does not know its instructions`);
    rmSync(join(folder, libraryName(target, name)), { force: true }); // of an earlier build
  }
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
    const own = file.endsWith('supported.cpp') ? flags.filter((flag) => flag.startsWith('-D')) : flags;
    await promisify(execFile)(compiler, [...COMMON, ...defines, ...own, '-c', file, '-o', object]);
  };
  const queue = [...files];
  const work = async () => {
    for (let file = queue.pop(); file; file = queue.pop()) await compile(file);
  };
  await Promise.all([work(), work()]);
  const library = join(folder, libraryName(target, name));
  const isStatic = target.startsWith('linux-') && !sanitize ? ['-static-libstdc++', '-static-libgcc'] : [];
  const part = `${library}.part`;
  await promisify(execFile)(compiler, ['-shared', '-pthread', ...SANITIZERS, ...isStatic, ...objects, '-o', part]);
  renameSync(part, library);
  for (const object of objects) rmSync(object);
}
