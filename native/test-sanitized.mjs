/** Runs the tests of the kernels with AddressSanitizer and UBSan. Linux with GCC; elsewhere it says so and succeeds. */
import { execFileSync, spawnSync } from 'node:child_process';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

const here = dirname(fileURLToPath(import.meta.url));
const TESTS = ['native-device', 'kernel-exactness', 'compressed-cache', 'sampling'].map((name) => `test/model/${name}.test.ts`);

/** Libraries that must be in the process before Node allocates anything. */
function sanitizerLibraries() {
  try {
    return ['libasan.so', 'libubsan.so'].map((name) => execFileSync('g++', [`-print-file-name=${name}`], { encoding: 'utf8' }).trim());
  } catch {
    return [];
  }
}

const libraries = sanitizerLibraries();
if (process.platform !== 'linux' || libraries.length === 0) {
  console.warn('skipped: the sanitizers need Linux and g++');
} else {
  execFileSync(process.execPath, [join(here, 'build.mjs'), '--sanitize'], { stdio: 'inherit', env: { ...process.env, CXX: 'g++' } });
  const env = {
    ...process.env,
    LD_PRELOAD: libraries.join(' '),
    // Node itself leaks at exit; and it reserves address space that the sanitizer would guard.
    ASAN_OPTIONS: 'detect_leaks=0,verify_asan_link_order=0,protect_shadow_gap=0',
    UBSAN_OPTIONS: 'print_stacktrace=1',
    FLEXLLMGEN_TEST_KERNELS: join(here, 'build', `${process.platform}-${process.arch}-sanitize`),
    // The report of the whole run stays as it is.
    FLEXLLMGEN_TEST_REPORT: '',
  };
  const vitest = join(here, '../node_modules/vitest/vitest.mjs');
  process.exitCode = spawnSync(process.execPath, [vitest, 'run', ...TESTS], { cwd: join(here, '..'), stdio: 'inherit', env }).status ?? 1;
}
