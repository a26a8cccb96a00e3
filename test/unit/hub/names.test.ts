import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { listCache, removeModel } from '../../../src/hub/cache.ts';
import { looksLikeModelName, parseModelName } from '../../../src/hub/model-name.ts';
import { pullModel } from '../../../src/hub/pull.ts';
import { type HubFile, selectFiles } from '../../../src/hub/select-files.ts';
import { hubSettings } from '../../../src/hub/settings.ts';
import { COMMIT, HubDouble } from '../../helpers/hub-double.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

describe('names', () => {
  it.each([
    ['gpt2', { repository: 'gpt2', revision: 'main' }],
    ['Qwen/Qwen3-8B', { repository: 'Qwen/Qwen3-8B', revision: 'main' }],
    ['a/b@v1.0', { repository: 'a/b', revision: 'v1.0' }],
    ['a/b@refs/pr/1', { repository: 'a/b', revision: 'refs/pr/1' }],
    ['a/b:Q4_K_M', { repository: 'a/b', revision: 'main', quantisation: 'Q4_K_M' }],
    [`a/b@${COMMIT}:q8_0`, { repository: 'a/b', revision: COMMIT, quantisation: 'q8_0' }],
  ])('%s', (name, expected) => {
    expect(parseModelName(name)).toEqual(expected);
  });

  it.each([
    '',
    'a/b/c',
    '../x',
    './x',
    '/a',
    'a b',
    'a/..',
    'a--b/c',
    'a/b@',
    'a/b@../x',
    'a/b:',
    'a/b:Q4/K',
    'C:\\x',
    `a/${'b'.repeat(97)}`,
  ])('%j is none', (name) => {
    expect(looksLikeModelName(name)).toBe(false);
    expect(() => parseModelName(name)).toThrow(/is no model of the hub/);
  });
});

describe('the files of a repository', () => {
  const file = (path: string): HubFile => ({ path, bytes: 1e9, hash: '0'.repeat(40) });
  const select = (name: string, paths: readonly string[]) => selectFiles(parseModelName(name), paths.map(file));
  const GGUF = [
    'README.md',
    'm-Q2_K.gguf',
    'm-Q4_K_M.gguf',
    'm-Q8_0-00001-of-00002.gguf',
    'm-Q8_0-00002-of-00002.gguf',
    'mmproj-F16.gguf',
    'BF16/m.gguf',
  ];

  it('are the weights in one form', () => {
    const { files, gguf } = select('a/b', [
      'config.json',
      'model.safetensors',
      'pytorch_model.bin',
      'tf_model.h5',
      'model.fp16.safetensors',
      'original/model.safetensors',
      'tokenizer.model',
      'm.gguf',
    ]);
    expect(files.map(({ path }) => path)).toEqual(['config.json', 'tokenizer.model', 'model.safetensors']);
    expect(gguf).toBeUndefined();
  });

  it.each([
    ['a/b:q2_k', ['m-Q2_K.gguf']],
    ['a/b', ['m-Q4_K_M.gguf']],
    ['a/b:Q8_0', ['m-Q8_0-00001-of-00002.gguf', 'm-Q8_0-00002-of-00002.gguf']],
    ['a/b:BF16', ['BF16/m.gguf']],
  ])('%s is %j', (name, expected) => {
    const { files, gguf } = select(name, GGUF);
    expect(files.map(({ path }) => path)).toEqual(expected);
    expect(gguf).toBe(expected[0]);
  });

  it('are the only GGUF file, whatever it is called', () => {
    expect(select('a/b', ['m.gguf', 'mmproj-m.gguf']).gguf).toBe('m.gguf');
  });

  it('are listed when the choice is not clear', () => {
    expect(() => select('a/b:Q5_0', GGUF)).toThrow(/no GGUF file of Q5_0; .* There are BF16 \(1\.00 GB\), Q2_K .*Q8_0 \(2\.00 GB\)/);
    expect(() => select('a/b', ['x-Q2_K.gguf', 'x-Q3_K.gguf'])).toThrow(/several GGUF files/);
    expect(() => select('a/b', ['README.md', 'config.json'])).toThrow(/neither weights .* nor a GGUF file/);
  });
});

describe('settings', () => {
  it('come from the variables of huggingface_hub', async () => {
    await using home = await makeTemporaryFolder();
    expect(await hubSettings({ HF_HOME: home.path })).toEqual({
      endpoint: 'https://huggingface.co',
      cache: join(home.path, 'hub'),
      offline: false,
    });
    await writeFile(join(home.path, 'token'), 'hf_file\n');
    expect((await hubSettings({ HF_HOME: home.path })).token).toBe('hf_file');
    const all = await hubSettings({
      HF_HOME: home.path,
      HF_TOKEN: 'hf_own',
      HF_HUB_CACHE: '/c',
      HF_ENDPOINT: 'http://mirror/',
      HF_HUB_OFFLINE: 'True',
    });
    expect(all).toEqual({ endpoint: 'http://mirror', token: 'hf_own', cache: '/c', offline: true });
    expect((await hubSettings({ XDG_CACHE_HOME: '/x', HF_TOKEN: '' })).cache).toBe(join('/x', 'huggingface', 'hub'));
    await expect(hubSettings({ HF_ENDPOINT: 'ftp://x' })).rejects.toThrow(/HF_ENDPOINT/);
  });
});

describe('the cache', () => {
  it('is listed, and models are removed from it', async () => {
    const files = { 'config.json': { content: Buffer.from('{}') }, 'model.safetensors': { content: Buffer.alloc(1000), large: true } };
    await using hub = await HubDouble.start({ files, repository: 'some-one/a.model' });
    await using cache = await makeTemporaryFolder();
    const { path } = await pullModel(parseModelName('some-one/a.model'), { endpoint: hub.endpoint, cache: cache.path, offline: false });
    expect(await listCache(cache.path)).toEqual([
      { repository: 'some-one/a.model', folder: expect.any(String), revisions: ['main'], bytes: 1042, snapshots: [path] },
    ]);
    expect(await removeModel(cache.path, 'some-one/other')).toBeUndefined();
    expect(await removeModel(cache.path, 'some-one/a.model')).toBe(1042);
    expect(await listCache(cache.path)).toEqual([]);
    expect(await listCache(join(cache.path, 'none'))).toEqual([]);
  });
});
