/**
 * Runs native/test/ on every kernel library: on this processor, and under qemu on processors that have just what a library needs, so that an instruction
 * of a wider set ends the program. Says what it skips because this machine lacks it.
 */
import { execFile, execFileSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { COMMON_FLAGS, findCompiler, HOST, instructionSets, isInstalled, knowsFlags, libraryName } from './toolchain.mjs';

const here = dirname(fileURLToPath(import.meta.url));
/** Exit code of the program where a library does not run. */
const NOT_HERE = 77;
/** A run takes 20 s, emulated AVX2 up to 300 s on a slow machine. */
const TIMEOUT_MS = 600_000;

/** Processors of qemu, without what it warns of: the libraries that they run, and those that must see for themselves that they do not run. */
const EMULATED = [
  { target: 'linux-x64', cpu: 'core2duo', runs: ['portable'], refuses: ['avx2'] },
  { target: 'linux-x64', cpu: 'Haswell-noTSX,-pcid,-x2apic,-tsc-deadline,-invpcid', runs: ['avx2'], refuses: ['vnni', 'vnni-bf16', 'amx'] },
  { target: 'linux-arm64', cpu: 'cortex-a53', runs: ['portable'], refuses: ['neon-dotprod'] },
  { target: 'linux-arm64', cpu: 'cortex-a76', runs: ['neon-dotprod'], refuses: ['neon-i8mm'] },
  { target: 'linux-arm64', cpu: 'max', runs: ['neon-i8mm'], refuses: [] },
];
/** Debian's programs, and where it keeps the libraries of other machines. */
const EMULATORS = {
  'linux-x64': { program: 'qemu-x86_64', libraries: '/usr/x86_64-linux-gnu' },
  'linux-arm64': { program: 'qemu-aarch64', libraries: '/usr/aarch64-linux-gnu' },
};

const counts = { passed: 0, failed: 0, skipped: 0 };

if (process.platform === 'win32' || !findCompiler(HOST)) {
  skip('all tests of kernels in C++: they need a C++ compiler, and Linux or macOS');
} else {
  const program = prepare(HOST);
  const isas = builtFor(HOST);
  const runs = isas.map((isa) => ({ what: `${isa} on this processor`, command: [program, library(HOST, isa)], expected: [0, NOT_HERE] }));
  // One after the other, as each has threads of its own; emulated they hardly ever compute at once.
  await runAll(runs, 1);
  await runAll(
    Object.keys(EMULATORS).flatMap((target) => emulatedRuns(target)),
    2,
  );
}
console.log(`kernels in C++: ${counts.passed} runs passed, ${counts.failed} failed, ${counts.skipped} skipped`);
process.exitCode = counts.failed === 0 ? 0 : 1;

function emulatedRuns(target) {
  const { program: emulator, libraries } = EMULATORS[target];
  const missing = [!isInstalled(emulator) && emulator, !findCompiler(target) && `a C++ compiler for ${target}`].filter(Boolean);
  if (missing.length > 0) {
    skip(`emulated ${target}: needs ${missing.join(' and ')} (Debian: qemu-user, g++-aarch64-linux-gnu)`);
    return [];
  }
  const program = prepare(target);
  const options = target === HOST ? [] : ['-L', libraries];
  const built = builtFor(target);
  return EMULATED.filter((each) => each.target === target).flatMap(({ cpu, runs, refuses }) => {
    const command = (isa) => [emulator, '-cpu', cpu, ...options, program, library(target, isa)];
    const name = cpu.split(',')[0];
    return [
      ...runs.map((isa) => ({ what: `${isa} on ${name}`, command: command(isa), expected: [0] })),
      ...refuses
        .filter((isa) => built.includes(isa))
        .map((isa) => ({ what: `${isa} refuses ${name}`, command: command(isa), expected: [NOT_HERE] })),
    ];
  });
}

/** Compiles the libraries and the program of a target. */
function prepare(target) {
  // CXX is for this machine.
  const { CXX: _, ...env } = process.env;
  execFileSync(process.execPath, [join(here, 'build.mjs'), '--target', target], {
    stdio: 'inherit',
    env: target === HOST ? process.env : env,
  });
  const folder = join(here, 'build', `${target}-test`);
  mkdirSync(folder, { recursive: true });
  const program = join(folder, 'kernel-tests');
  const sources = readdirSync(join(here, 'test')).filter((name) => name.endsWith('.cpp'));
  const flags = COMMON_FLAGS.map((flag) => (flag === '-O3' ? '-O1' : flag)).filter((flag) => !flag.startsWith('-fno-'));
  execFileSync(findCompiler(target), [...flags, ...sources.map((name) => join(here, 'test', name)), '-o', program, '-ldl'], {
    stdio: 'inherit',
  });
  return program;
}

/** The instruction sets of a target that its compiler knows. */
function builtFor(target) {
  const compiler = findCompiler(target);
  return Object.entries(instructionSets(target) ?? {}).flatMap(([isa, flags]) => {
    if (knowsFlags(compiler, flags)) return [isa];
    skip(`${isa}: ${compiler} does not know its instructions`);
    return [];
  });
}

function library(target, isa) {
  const file = join(here, 'build', target, libraryName(target, isa));
  if (!existsSync(file)) throw new Error(`${file} is missing`);
  return file;
}

/** `together` at a time, in their order. */
async function runAll(runs, together) {
  const queue = [...runs];
  const work = async () => {
    for (let run = queue.shift(); run; run = queue.shift()) await runOne(run);
  };
  await Promise.all(Array.from({ length: together }, work));
}

async function runOne({ what, command: [program, ...parameters], expected }) {
  const { code, output } = await new Promise((resolve) => {
    execFile(program, parameters, { timeout: TIMEOUT_MS }, (error, stdout, stderr) =>
      resolve({ code: error ? (error.code ?? error.signal) : 0, output: `${stdout}${stderr}`.trim() }),
    );
  });
  if (code === NOT_HERE && expected.includes(0)) return skip(`${what}: ${output}`);
  const ok = expected.includes(code);
  counts[ok ? 'passed' : 'failed'] += 1;
  console.log(`${ok ? 'ok' : `FAILED with ${code}`}: ${what}: ${output}`);
}

function skip(what) {
  counts.skipped += 1;
  console.warn(`SKIPPED: ${what}`);
}
