import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import { dirname, join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { findModels, modelPlaces } from '../../../src/cli/find-models.ts';
import { MAX_CONFIG_BYTES } from '../../../src/formats/limits.ts';

let root: string;
beforeEach(() => void (root = mkdtempSync(join(os.tmpdir(), 'flexllmgen-models-'))));
afterEach(() => rmSync(root, { recursive: true }));

function put(path: string, text: string): void {
  mkdirSync(dirname(join(root, path)), { recursive: true });
  writeFileSync(join(root, path), text);
}

async function found() {
  const models = await findModels({ modelsFolder: join(root, 'models'), hubCache: join(root, 'hub') });
  return models.filter(({ origin }) => origin !== 'bundled').map(({ path, ...rest }) => ({ ...rest, path: path.slice(root.length + 1) }));
}

describe('models on this machine', () => {
  it('always include the bundled one, and it can be run', async () => {
    const [bundled] = await findModels({ modelsFolder: join(root, 'none'), hubCache: join(root, 'none') });
    expect(bundled).toMatchObject({ name: 'tidy-opt-5m', type: 'opt', weightBytes: 10_800_944 });
    expect(bundled).not.toHaveProperty('problem');
  });

  it('are found in ./models, with what speaks against them', async () => {
    put('models/strange/config.json', '{"model_type": "strange"}');
    put('models/strange/a-00001-of-00002.safetensors', '12345');
    put('models/strange/a-00002-of-00002.safetensors', '123');
    put('models/pickled/config.json', '{"model_type": "opt"}');
    put('models/pickled/pytorch_model.bin', '12345');
    put('models/pickled/training_args.bin', '1');
    put('models/both/config.json', '{"model_type": "opt"}');
    put('models/both/pytorch_model.bin', '12345');
    put('models/both/model.safetensors', '123');
    put('models/other/config.json', '{"model_type": "opt"}');
    put('models/other/flax_model.msgpack', '12345');
    put('models/broken/config.json', '{');
    put('models/list/config.json', '[]');
    put('models/long/config.json', `{"model_type": "opt"${' '.repeat(MAX_CONFIG_BYTES)}}`);
    put('models/empty/readme', '');
    expect(await found()).toEqual([
      { name: 'both', path: 'models/both', origin: 'models folder', type: 'opt', weightBytes: 3 },
      {
        name: 'other',
        path: 'models/other',
        origin: 'models folder',
        type: 'opt',
        weightBytes: 0,
        problem: expect.stringContaining('safetensors'),
      },
      { name: 'pickled', path: 'models/pickled', origin: 'models folder', type: 'opt', weightBytes: 5 },
      {
        name: 'strange',
        path: 'models/strange',
        origin: 'models folder',
        type: 'strange',
        weightBytes: 8,
        problem: expect.stringContaining('opt'),
      },
    ]);
  });

  it('are found in the cache of Hugging Face, the version of main', async () => {
    for (const [revision, type] of [
      ['aaa', 'new'],
      ['bbb', 'old'],
    ] as const)
      put(`hub/models--facebook--opt-x/snapshots/${revision}/config.json`, `{"model_type": "${type}"}`);
    put('hub/models--facebook--opt-x/refs/main', 'aaa');
    put('hub/models--gpt2/snapshots/ccc/config.json', '{"model_type": "gpt2"}');
    put('hub/models--half--loaded/refs/main', 'ddd');
    put('hub/datasets--a--b/snapshots/ccc/config.json', '{}');
    expect((await found()).map(({ name, type, path }) => [name, type, path])).toEqual([
      ['facebook/opt-x', 'new', 'hub/models--facebook--opt-x/snapshots/aaa'],
      ['gpt2', 'gpt2', 'hub/models--gpt2/snapshots/ccc'],
    ]);
  });

  it.each([
    [{}, join(os.homedir(), '.cache/huggingface/hub')],
    [{ XDG_CACHE_HOME: '/x' }, '/x/huggingface/hub'],
    [{ XDG_CACHE_HOME: '/x', HF_HOME: '/h' }, '/h/hub'],
    [{ HF_HOME: '/h', HF_HUB_CACHE: '/c' }, '/c'],
  ])('cache by environment %j', (env, hubCache) => {
    expect(modelPlaces(env, '/here')).toEqual({ modelsFolder: '/here/models', hubCache });
  });
});
