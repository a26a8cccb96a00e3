import { mkdir, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { findLibraryDirectory, installedPackage, listCpuVariants, loadLibrary, packagesFor } from '../../../src/native/libraries.ts';
import { NativeError, UsageError } from '../../../src/util/errors.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

afterEach(() => vi.unstubAllEnvs());

describe('findLibraryDirectory', () => {
  it('takes FLEXLLMGEN_GGML_DIR for every backend', async () => {
    await using folder = await makeTemporaryFolder();
    vi.stubEnv('FLEXLLMGEN_GGML_DIR', folder.path);
    expect(findLibraryDirectory('cpu')).toEqual({ path: folder.path, origin: 'FLEXLLMGEN_GGML_DIR' });
    expect(findLibraryDirectory('cuda').path).toBe(folder.path);
  });

  it('refuses a FLEXLLMGEN_GGML_DIR that is not there, and ignores an empty one', () => {
    vi.stubEnv('FLEXLLMGEN_GGML_DIR', '/no/such/place');
    expect(() => findLibraryDirectory('cpu')).toThrow(new UsageError('FLEXLLMGEN_GGML_DIR: no directory /no/such/place'));
    vi.stubEnv('FLEXLLMGEN_GGML_DIR', '');
    expect(() => findLibraryDirectory('abacus')).toThrow(UsageError);
  });

  it('names a backend that this platform has no package for', () => {
    const platform = `${process.platform}-${process.arch}`;
    expect(() => findLibraryDirectory('abacus')).toThrow(`backend abacus: there is no ggml package with it for ${platform}`);
  });
});

describe('packages', () => {
  it.skipIf(process.platform !== 'linux' || process.arch !== 'x64').each([
    ['cpu', ['@node-llama-cpp/linux-x64']],
    ['vulkan', ['@node-llama-cpp/linux-x64-vulkan']],
    ['cuda', ['@node-llama-cpp/linux-x64-cuda']],
    ['metal', []],
  ])('that carry %s here: %j', (backend, names) => expect(packagesFor(backend)).toEqual(names));

  it('that are not installed are passed over', () => {
    expect(installedPackage(['@node-llama-cpp/no-such-platform'])).toBeUndefined();
    expect(installedPackage([])).toBeUndefined();
  });
});

describe('libraries of a directory', () => {
  it('are none in an empty one, which loadLibrary says', async () => {
    await using folder = await makeTemporaryFolder();
    const directory = { path: folder.path, origin: 'a test' };
    expect(() => loadLibrary(directory, 'ggml-base')).toThrow(new NativeError(`${folder.path} (a test): no library ggml-base`));
    expect(() => listCpuVariants(directory)).toThrow(/no library ggml-base/);
  });

  it.each(['ggml-base.so', 'libggml-base.dylib', 'libggml-base.so', 'ggml-base.dll'])(
    'are found as %s; one that is broken is named',
    async (name) => {
      await using folder = await makeTemporaryFolder();
      const file = path.join(folder.path, name);
      await writeFile(file, 'no library at all');
      await writeFile(path.join(folder.path, `${name}.txt`), '');
      const load = () => loadLibrary({ path: folder.path, origin: 'a test' }, 'ggml-base');
      expect(load).toThrow(NativeError);
      expect(load).toThrow(`${file}: cannot be loaded: `);
    },
  );

  it('that cannot be listed are named', async () => {
    await using folder = await makeTemporaryFolder();
    const missing = path.join(folder.path, 'gone');
    await mkdir(path.join(folder.path, 'here'));
    expect(() => loadLibrary({ path: missing, origin: 'a test' }, 'ggml-base')).toThrow(`${missing} (a test): cannot be listed`);
  });
});
