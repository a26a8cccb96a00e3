import { execFileSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { PACKAGE_OWNERS } from './layers.ts';
import { readManifest, readText } from './repository.ts';

interface LockEntry {
  readonly version: string;
  readonly integrity: string;
  readonly resolved?: string;
  readonly optionalDependencies?: Readonly<Record<string, string>>;
}

const manifest = readManifest();
const lockfiles = ['package-lock.json', 'test/gpu/package-lock.json'];

describe('package.json', () => {
  it('pins every dependency to one version', () => {
    const gpuTests = JSON.parse(readText('test/gpu/package.json')) as { dependencies: Record<string, string> };
    const groups = [manifest.dependencies, manifest.optionalDependencies, manifest.devDependencies, gpuTests.dependencies];
    const loose = groups.flatMap((group) => Object.entries(group)).filter(([, version]) => !/^\d+\.\d+\.\d+$/.test(version));
    expect(loose).toEqual([]);
  });

  it('has only the runtime dependencies that a layer owns', () => {
    expect(Object.keys(manifest.dependencies).toSorted()).toEqual(Object.keys(PACKAGE_OWNERS).toSorted());
  });

  it('takes the native libraries of all platforms from one release', () => {
    const names = Object.keys(manifest.optionalDependencies);
    expect(names.every((name) => name.startsWith('@node-llama-cpp/'))).toBe(true);
    expect(new Set(names.map((name) => name.split('/')[1]!.split('-')[0]))).toEqual(new Set(['linux', 'mac', 'win']));
    const gpuTests = JSON.parse(readText('test/gpu/package.json')) as { dependencies: Record<string, string> };
    const versions = [...Object.values(manifest.optionalDependencies), gpuTests.dependencies['@node-llama-cpp/linux-x64-vulkan']];
    expect(new Set(versions).size).toBe(1);
  });

  it('names the oldest Node that works', () => {
    expect(manifest).toMatchObject({ type: 'module', engines: { node: '>=20.15' } });
    expect(Number(process.versions.node.split('.')[0])).toBeGreaterThanOrEqual(20);
  });
});

describe.each(lockfiles)('%s', (file) => {
  const { packages } = JSON.parse(readText(file)) as { packages: Record<string, LockEntry> };
  const entries = Object.entries(packages).filter(([path]) => path !== '');

  it('works with any registry: no addresses, only versions and checksums', () => {
    expect(entries.filter(([, entry]) => entry.resolved !== undefined || !entry.version || !entry.integrity)).toEqual([]);
  });

  it('has the binaries of every platform, without which npm ci refuses it', () => {
    const wanted = entries.flatMap(([, entry]) => Object.keys(entry.optionalDependencies ?? {}));
    expect(wanted.filter((name) => !(`node_modules/${name}` in packages))).toEqual([]);
  });
});

describe('published package', () => {
  it('has been built', () => {
    const targets = Object.values(manifest.exports).flatMap((target) => (typeof target === 'string' ? [target] : Object.values(target)));
    const missing = [...targets, ...Object.values(manifest.bin)].filter((path) => !existsSync(path));
    expect(missing, 'run "npm run build"').toEqual([]);
  });

  it('has commands that a shell can start', () => {
    for (const path of Object.values(manifest.bin)) expect(readFileSync(path, 'utf8').split('\n')[0]).toBe('#!/usr/bin/env node');
  });

  it('contains code, model and sample data, and no tests', () => {
    const files = packedFiles();
    expect(files).toEqual(
      expect.arrayContaining(['package.json', 'LICENSE', 'CHANGELOG.md', 'dist/index.js', 'dist/index.d.ts', 'dist/cli/main.js']),
    );
    expect(files.filter((path) => path.startsWith('models/')).length).toBeGreaterThan(2);
    expect(files.filter((path) => path.startsWith('examples/data/')).length).toBeGreaterThan(0);
    expect(files.filter((path) => /^(test|src|bench|scripts|\.)|fixture|\.test\./.test(path))).toEqual([]);
  });
});

/** What `npm pack` would take. Scripts are ignored: building here would race with tests that run the built command. */
function packedFiles(): string[] {
  const output = execFileSync('npm', ['pack', '--dry-run', '--json', '--ignore-scripts'], {
    encoding: 'utf8',
    shell: process.platform === 'win32', // npm is a script there
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const [packed] = JSON.parse(output) as [{ files: { path: string }[] }];
  return packed.files.map(({ path }) => path);
}
