import { spawn } from 'node:child_process';
import { mkdir, readdir, readFile, readlink, stat, symlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { parseModelName } from '../../../src/hub/model-name.ts';
import { pullModel, type PullProgress } from '../../../src/hub/pull.ts';
import type { HubSettings } from '../../../src/hub/settings.ts';
import { COMMIT, type DoubleFile, hashOf, HubDouble } from '../../helpers/hub-double.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

const text = (content: string): DoubleFile => ({ content: Buffer.from(content) });
const large = (bytes: number, seed = 1): DoubleFile => ({
  content: Buffer.from(Uint8Array.from({ length: bytes }, (_, i) => (i * seed) % 251)),
  large: true,
});

const FOLDER: Record<string, DoubleFile> = {
  'README.md': text('read me'),
  'config.json': text('{"model_type":"llama"}'),
  'model-00001-of-00002.safetensors': large(300_000),
  'model-00002-of-00002.safetensors': large(200_000, 7),
  'model.safetensors.index.json': text('{}'),
  'onnx/model.onnx': large(10),
  'pytorch_model.bin': large(500_000, 3),
  'tokenizer.json': text('{"a":1}'),
};
const WANTED = Object.keys(FOLDER).filter((name) => !['README.md', 'onnx/model.onnx', 'pytorch_model.bin'].includes(name));
const NAME = parseModelName('owner/model');
const FAST = { backoffMs: 1, stallMs: 5000 };

const settingsOf = (hub: { readonly endpoint: string }, cache: string, more: Partial<HubSettings> = {}): HubSettings => ({
  endpoint: hub.endpoint,
  cache,
  offline: false,
  ...more,
});
const transfers = (hub: HubDouble, name: string) => hub.seen.filter(({ path }) => path.endsWith(`/${name}`) && !path.includes('/api/'));

async function expectWhole(snapshot: string, names: readonly string[], files = FOLDER): Promise<void> {
  for (const name of names) {
    const content = await readFile(join(snapshot, name));
    expect(content.equals(files[name]!.content)).toBe(true);
  }
}

describe('a pull', () => {
  it('fetches what the model needs into the layout of the Python library', async () => {
    await using hub = await HubDouble.start({ files: FOLDER });
    await using cache = await makeTemporaryFolder();
    const states: PullProgress[] = [];
    const { path, commit } = await pullModel(NAME, settingsOf(hub, cache.path), { ...FAST, onProgress: (state) => states.push(state) });
    const folder = join(cache.path, 'models--owner--model');
    expect(commit).toBe(COMMIT);
    expect(path).toBe(join(folder, 'snapshots', COMMIT));
    expect((await readdir(path)).toSorted()).toEqual(WANTED.toSorted());
    await expectWhole(path, WANTED);
    expect(await readFile(join(folder, 'refs', 'main'), 'utf8')).toBe(COMMIT);
    for (const name of WANTED) expect(await readlink(join(path, name))).toBe(`../../blobs/${hashOf(FOLDER[name]!)}`);
    const total = WANTED.reduce((sum, name) => sum + FOLDER[name]!.content.length, 0);
    expect(states.at(-1)!.bytes).toEqual({ total, done: total, reused: 0 });
  });

  it('fetches nothing twice', async () => {
    await using hub = await HubDouble.start({ files: FOLDER });
    await using cache = await makeTemporaryFolder();
    await pullModel(NAME, settingsOf(hub, cache.path), FAST);
    const before = hub.seen.filter(({ path }) => path.includes('resolve')).length;
    await pullModel(NAME, settingsOf(hub, cache.path), FAST);
    expect(hub.seen.filter(({ path }) => path.includes('resolve'))).toHaveLength(before);
  });

  it('sends the token to the hub and nowhere else', async () => {
    await using hub = await HubDouble.start({ files: FOLDER, token: 'secret' });
    await using cache = await makeTemporaryFolder();
    await pullModel(NAME, settingsOf(hub, cache.path, { token: 'secret' }), FAST);
    expect(hub.seen.filter(({ host }) => host === 'hub').every(({ authorised }) => authorised)).toBe(true);
    const stored = hub.seen.filter(({ host }) => host === 'storage');
    expect(stored).toHaveLength(2);
    expect(stored.some(({ authorised }) => authorised)).toBe(false);
  });

  it('goes on after broken connections with what is missing', async () => {
    await using hub = await HubDouble.start({ files: FOLDER, breaks: { after: 100_000, times: 6 } });
    await using cache = await makeTemporaryFolder();
    const { path } = await pullModel(NAME, settingsOf(hub, cache.path), FAST);
    await expectWhole(path, WANTED);
    expect(transfers(hub, 'model-00001-of-00002.safetensors').filter(({ range }) => range !== undefined).length).toBeGreaterThan(0);
  });

  it('starts over where the server ignores ranges', async () => {
    await using hub = await HubDouble.start({ files: FOLDER, breaks: { after: 100_000, times: 4 }, ignoreRanges: true });
    await using cache = await makeTemporaryFolder();
    const states: PullProgress[] = [];
    const { path } = await pullModel(NAME, settingsOf(hub, cache.path), { ...FAST, onProgress: (state) => states.push(state) });
    await expectWhole(path, WANTED);
    expect(states.at(-1)!.bytes.done).toBe(states.at(-1)!.bytes.total);
  });

  it.each([429, 500, 503])('tries again after status %i', async (status) => {
    await using hub = await HubDouble.start({ files: FOLDER, busy: { status, times: 3 } });
    await using cache = await makeTemporaryFolder();
    const { path } = await pullModel(NAME, settingsOf(hub, cache.path), FAST);
    expect((await readdir(path)).toSorted()).toEqual(WANTED.toSorted());
    await expectWhole(path, WANTED);
  });

  it('gives up in words when nothing comes', async () => {
    await using hub = await HubDouble.start({ files: FOLDER, busy: { status: 503, times: 1000 } });
    await using cache = await makeTemporaryFolder();
    await expect(pullModel(NAME, settingsOf(hub, cache.path), FAST)).rejects.toThrow(/the hub answers with status 503/);
    expect(await readdir(join(cache.path, 'models--owner--model'))).not.toContain('snapshots');
  });

  it('takes no content with a wrong hash, and tries once more', async () => {
    const files = { ...FOLDER, 'tokenizer.json': { ...text('{}'), listedHash: 'a'.repeat(40) } };
    await using hub = await HubDouble.start({ files });
    await using cache = await makeTemporaryFolder();
    await expect(pullModel(NAME, settingsOf(hub, cache.path), FAST)).rejects.toThrow(
      /tokenizer\.json: hash a{40} expected, got [0-9a-f]{40}, twice/,
    );
    expect(transfers(hub, 'tokenizer.json')).toHaveLength(2);
    expect(await readdir(join(cache.path, 'models--owner--model', 'blobs'))).not.toContain('a'.repeat(40));
  });

  it('ends when it is told to, and goes on later', async () => {
    await using hub = await HubDouble.start({ files: FOLDER, breaks: { after: 60_000, times: 1000 } });
    await using cache = await makeTemporaryFolder();
    const stop = new AbortController();
    const settings = settingsOf(hub, cache.path);
    const pulling = pullModel(NAME, settings, {
      ...FAST,
      signal: stop.signal,
      onProgress: ({ bytes }) => bytes.done > 100_000 && stop.abort(new Error('enough')),
    });
    await expect(pulling).rejects.toThrow('enough');
    const partial = (await readdir(join(cache.path, 'models--owner--model', 'blobs'))).filter((name) => name.endsWith('.incomplete'));
    expect(partial.length).toBeGreaterThan(0);
    await using whole = await HubDouble.start({ files: FOLDER });
    const { path } = await pullModel(NAME, settingsOf(whole, cache.path), FAST);
    await expectWhole(path, WANTED);
    expect(whole.seen.some(({ range }) => range !== undefined)).toBe(true);
  });

  it('waits for another process with the same model, or does its share', async () => {
    await using hub = await HubDouble.start({ files: FOLDER });
    await using cache = await makeTemporaryFolder();
    const settings = settingsOf(hub, cache.path);
    const pulls = await Promise.all([pullModel(NAME, settings, FAST), pullModel(NAME, settings, FAST)]);
    for (const { path } of pulls) await expectWhole(path, WANTED);
    expect(transfers(hub, 'tokenizer.json')).toHaveLength(1);
  });

  it('loses nothing when it is killed', async () => {
    const files = { ...FOLDER, 'model-00001-of-00002.safetensors': large(3_000_000) };
    await using slow = await HubDouble.start({ files, breaks: { after: 2_000_000, times: 1000 } });
    await using cache = await makeTemporaryFolder();
    const child = spawn(process.execPath, ['--import', 'tsx', join(import.meta.dirname, 'pull-child.ts'), slow.endpoint, cache.path], {
      stdio: 'ignore',
    });
    const partial = join(cache.path, 'models--owner--model', 'blobs', `${hashOf(files['model-00001-of-00002.safetensors'])}.incomplete`);
    await expect.poll(async () => (await stat(partial).catch(() => ({ size: 0 }))).size, { timeout: 8000 }).toBeGreaterThan(1_000_000);
    child.kill('SIGKILL');
    await new Promise((resolve) => child.once('exit', resolve));
    await using hub = await HubDouble.start({ files });
    const { path } = await pullModel(NAME, settingsOf(hub, cache.path), FAST);
    await expectWhole(path, WANTED, files);
    const stored = hub.seen.find(({ host, path: asked }) => host === 'storage' && asked.includes('00001'));
    expect(Number(/\d+/.exec(stored!.range!)![0])).toBeGreaterThan(1_000_000);
  });
});

describe('without the network', () => {
  it('a copy that the Python library made is found', async () => {
    await using cache = await makeTemporaryFolder();
    const folder = join(cache.path, 'models--owner--model');
    const snapshot = join(folder, 'snapshots', COMMIT);
    for (const name of ['blobs', 'refs', `snapshots/${COMMIT}`]) await mkdir(join(folder, name), { recursive: true });
    await writeFile(join(folder, 'refs', 'main'), COMMIT);
    for (const [i, name] of ['config.json', 'model.safetensors'].entries()) {
      await writeFile(join(folder, 'blobs', String(i)), name);
      await symlink(`../../blobs/${i}`, join(snapshot, name));
    }
    const offline = settingsOf({ endpoint: 'http://127.0.0.1:1' }, cache.path, { offline: true });
    expect(await pullModel(NAME, offline)).toEqual({ path: snapshot, commit: COMMIT });
    expect(await pullModel(parseModelName(`owner/model@${COMMIT}`), offline)).toEqual({ path: snapshot, commit: COMMIT });
    const notices: string[] = [];
    const unreachable = { ...offline, offline: false };
    expect((await pullModel(NAME, unreachable, { onNotice: (notice) => notices.push(notice) })).path).toBe(snapshot);
    expect(notices).toEqual([expect.stringMatching(/cannot be reached .*; the copy in the cache is used/)]);
    await expect(pullModel(parseModelName('owner/model@v2'), offline)).rejects.toThrow(/HF_HUB_OFFLINE is set/);
  });

  it('half a model is no model', async () => {
    await using cache = await makeTemporaryFolder();
    const folder = join(cache.path, 'models--owner--model');
    await mkdir(join(folder, 'snapshots', COMMIT), { recursive: true });
    await mkdir(join(folder, 'refs'));
    await writeFile(join(folder, 'refs', 'main'), COMMIT);
    for (const name of ['config.json', 'model-00001-of-00002.safetensors']) await writeFile(join(folder, 'snapshots', COMMIT, name), name);
    const offline = settingsOf({ endpoint: 'http://127.0.0.1:1' }, cache.path, { offline: true });
    await expect(pullModel(NAME, offline)).rejects.toThrow(/model-00002-of-00002\.safetensors is missing/);
  });
});

describe('a refusal says why, and what to do', () => {
  it.each([
    [401, 'Invalid username or password.', undefined, /private or does not exist; for a private model set HF_TOKEN/],
    [401, 'Invalid credentials', 'wrong', /the token is not valid/],
    [401, 'Access to model owner/model is restricted.', undefined, /is gated; accept its conditions at .*owner\/model, and set HF_TOKEN/],
    [
      403,
      'Access to model is restricted and you are not in the authorized list.',
      'mine',
      /is gated; accept its conditions .* account of your token/,
    ],
    [404, 'Repository not found', undefined, /there is no such model/],
    [404, 'Invalid rev id: main', undefined, /there is no such model|no revision main/],
    [429, 'Too many', undefined, /refuses so many requests/],
    [500, 'Oh', undefined, /failed with status 500/],
  ])('%i %s', async (status, error, token, message) => {
    await using hub = await HubDouble.start({ files: {}, refusal: { status, error } });
    await using cache = await makeTemporaryFolder();
    const pulling = pullModel(NAME, settingsOf(hub, cache.path, token === undefined ? {} : { token }), FAST);
    await expect(pulling).rejects.toThrow(message);
    await expect(pulling).rejects.not.toThrow('wrong');
  });

  it.each(['../evil', '/etc/passwd', 'a//b', 'a\\b', 'a\u0000b', 'C:x'])('a file called %j is refused', async (name) => {
    await using hub = await HubDouble.start({ files: { 'config.json': text('{}'), [name]: text('x') } });
    await using cache = await makeTemporaryFolder();
    await expect(pullModel(NAME, settingsOf(hub, cache.path), FAST)).rejects.toThrow(/no safe name/);
  });
});
