import { execFile, spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync, symlinkSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { afterAll, beforeAll, expect, it } from 'vitest';
import { cli } from '../helpers/cli.ts';
import { jobResult } from '../helpers/cli-job.ts';

const REPOSITORY = fileURLToPath(new URL('../../', import.meta.url));
/** The user with the fewest rights, on every Linux. */
const NOBODY = 65_534;
/** Includes starting; 20 s are promised for a machine of one's own, tests share theirs. */
const DEMO_SECONDS = 100;

let root: string;
let main: string;
/** The package as it would be published, in a folder with spaces, and folders in which a user can write or cannot. */
beforeAll(async () => {
  root = mkdtempSync(join(os.tmpdir(), 'flexllmgen installed '));
  chmodSync(root, 0o755);
  const env = { ...process.env, npm_config_cache: join(root, 'npm cache'), npm_config_update_notifier: 'false' };
  // Without scripts: they would build the repository under the feet of other tests.
  const pack = ['pack', '--ignore-scripts', '--silent', '--pack-destination', root];
  await promisify(execFile)('npm', pack, { cwd: REPOSITORY, env, shell: process.platform === 'win32' });
  const tarball = readdirSync(root).find((name) => name.endsWith('.tgz'))!;
  await promisify(execFile)('tar', ['-xzf', tarball], { cwd: root });
  main = join(root, 'package/dist/cli/main.js');
  linkDependencies(join(root, 'package/node_modules'));
  mkdirSync(join(root, 'temporary'));
  chmodSync(join(root, 'temporary'), 0o777);
  mkdirSync(join(root, 'home'), { mode: 0o555 });
});
afterAll(() => rmSync(root, { recursive: true, force: true, maxRetries: 3 }));

it('the published package has what users need, and nothing of the tests', () => {
  const names = readdirSync(join(root, 'package'), { recursive: true, encoding: 'utf8' }).filter(
    (name) => !name.startsWith('node_modules'),
  );
  for (const needed of ['README.md', 'LICENSE', 'models/tidy-opt-5m/model.safetensors', 'examples/data/messy.csv', 'dist/index.d.ts'])
    expect(names.map((name) => name.replaceAll('\\', '/'))).toContain(needed);
  expect(names.filter((name) => /\btest\b|fixtures|\.test\./.test(name))).toEqual([]);
});

it('is tested without the packages that only its development needs', () => {
  const { resolve } = createRequire(main);
  expect(() => resolve('koffi')).not.toThrow();
  expect(() => resolve('typescript')).toThrow('Cannot find module');
});

it('carries kernels for this processor, without a compiler', async () => {
  const { stdout } = await cli(['doctor', '--json'], { main, env: { PATH: '/nonexistent' } });
  expect(JSON.parse(stdout)).toMatchObject({ kernels: expect.stringMatching(/^(portable|avx2|vnni|vnni-bf16|amx)$/) });
});

it('works from a path with spaces, offline, for a user who can write to temporary files only', { timeout: 120_000 }, async () => {
  const home = join(root, 'home');
  const temporary = join(root, 'temporary');
  const began = performance.now();
  const result = jobResult(
    await cli(['demo', '--json'], {
      main,
      prefix: restrictions(),
      cwd: home,
      env: { HOME: home, USERPROFILE: home, TMPDIR: temporary, TMP: temporary, TEMP: temporary },
      timeoutMs: 110_000,
    }),
  );
  const seconds = (performance.now() - began) / 1000;
  expect(result.message).toBe('');
  expect(result.status).toBe(0);
  expect(result.summary!.rows).toEqual({ total: 560, done: 560, failed: 0, reused: 0 });
  expect(seconds).toBeLessThan(DEMO_SECONDS);
  expect(readdirSync(home)).toEqual([]);
});

/** Links what an installation of the package would bring, and nothing else, so that a dependency that is not declared is missed. */
function linkDependencies(folder: string): void {
  const lock = JSON.parse(readFileSync(join(REPOSITORY, 'package-lock.json'), 'utf8')) as { packages: Record<string, { dev?: boolean }> };
  const paths = Object.keys(lock.packages).filter((path) => /^node_modules\/(@[^/]+\/)?[^/]+$/.test(path) && !lock.packages[path]!.dev);
  for (const path of paths) {
    const target = join(REPOSITORY, path);
    if (!existsSync(target)) continue; // optional, for another platform
    const link = join(folder, path.slice('node_modules/'.length));
    mkdirSync(dirname(link), { recursive: true });
    symlinkSync(target, link, 'junction');
  }
}

/** The strictest command that is permitted here: without network, and as a user with few rights where this is root. */
function restrictions(): readonly string[] {
  const isRoot = process.getuid?.() === 0;
  const nobody = isRoot ? ['setpriv', `--reuid=${NOBODY}`, `--regid=${NOBODY}`, '--clear-groups'] : [];
  const offline = isRoot ? ['unshare', '-n'] : ['unshare', '-rn'];
  const choices = [[...offline, ...nobody], offline, nobody];
  return choices.find((words) => words.length > 0 && isPermitted(words)) ?? [];
}

function isPermitted(prefix: readonly string[]): boolean {
  const [command, ...rest] = [...prefix, process.execPath, '-e', 'require(process.argv[1])', join(REPOSITORY, 'node_modules/koffi')];
  return spawnSync(command, rest).status === 0;
}
