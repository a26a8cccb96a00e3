import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { cli } from '../helpers/cli.ts';
import { fixtureFolder } from '../helpers/golden.ts';
import { type DoubleFile, HubDouble } from '../helpers/hub-double.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const FOLDER = fixtureFolder('llama');
const FILES = Object.fromEntries(
  readdirSync(FOLDER).map((name): [string, DoubleFile] => [
    name,
    { content: readFileSync(join(FOLDER, name)), large: name.endsWith('.safetensors') },
  ]),
);
const PROMPT = ['--token-ids', '5 6 7 8', '--max-tokens', '6', '--compute', 'f32'];

describe('models of the hub', () => {
  it('are fetched, run, converted, verified, listed and removed', async () => {
    await using hub = await HubDouble.start({ files: FILES, repository: 'tiny/llama' });
    await using home = await makeTemporaryFolder();
    const env = { HF_ENDPOINT: hub.endpoint, HF_HOME: join(home.path, 'hf'), FLEXLLMGEN_CACHE: join(home.path, 'own') };
    const run = async (...args: string[]): Promise<string> => {
      const { status, stdout, stderr } = await cli(args, { env });
      expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
      return stdout;
    };
    const list = async (): Promise<object[]> => JSON.parse(await run('models', 'list', '--json')) as object[];
    expect(await list()).toEqual([]);
    const local = await run('generate', '-m', FOLDER, ...PROMPT);
    expect(await run('generate', '-m', 'tiny/llama', ...PROMPT)).toBe(local);
    expect(await run('models', 'pull', 'tiny/llama')).toMatch(/snapshots/);
    const file = join(home.path, 'llama.gguf');
    expect(await run('convert', 'tiny/llama', '-o', file)).toMatch(/f32/);
    expect(await run('verify', file)).toMatch(/all as written/);
    expect(await run('generate', '-m', file, ...PROMPT)).toBe(local);
    await run('convert', 'tiny/llama', '--dtype', 'q8');
    expect(await list()).toEqual([
      expect.objectContaining({ name: 'tiny/llama', origin: 'hub', family: 'llama', type: 'f32', contextLength: 256 }),
      expect.objectContaining({ name: expect.stringMatching(/^llama-.*-q8\.gguf$/) as string, origin: 'converted', type: 'q8_0' }),
    ]);
    expect(await run('models', 'remove', 'tiny/llama')).toMatch(/removed/);
    expect(await list()).toHaveLength(1);
  });

  it('that do not exist are said not to, with status 1', async () => {
    await using hub = await HubDouble.start({ files: {}, refusal: { status: 404, error: 'Repository not found' } });
    await using home = await makeTemporaryFolder();
    const { status, stderr } = await cli(['generate', '-m', 'some/model', 'x'], {
      env: { HF_ENDPOINT: hub.endpoint, HF_HOME: home.path },
    });
    expect({ status, stderr }).toEqual({
      status: 1,
      stderr: expect.stringMatching(/there is no such model .* no file or folder some\/model either/) as string,
    });
  });
});

describe('a damaged file', () => {
  it('is named by verify, with status 1', async () => {
    await using home = await makeTemporaryFolder();
    const file = join(home.path, 'llama.gguf');
    await cli(['convert', FOLDER, '-o', file]);
    const bytes = readFileSync(file);
    bytes[bytes.length - 4096] = bytes[bytes.length - 4096]! ^ 1;
    writeFileSync(file, bytes);
    const { status, stdout } = await cli(['verify', file, '--json']);
    expect({ status, damaged: (JSON.parse(stdout) as { damaged: string[] }).damaged }).toEqual({
      status: 1,
      damaged: [expect.any(String)],
    });
  });
});
