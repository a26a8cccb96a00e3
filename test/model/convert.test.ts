import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { open, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { afterEach, describe, expect, it } from 'vitest';
import { verifyModel } from '../../src/convert/verify.ts';
import { openGguf } from '../../src/formats/gguf/gguf-file.ts';
import { convertModel } from '../../src/llm/convert-model.ts';
import { inspectModel } from '../../src/llm/inspect.ts';
import { LLM } from '../../src/llm.ts';
import { copyFixture, fixtureFolder } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const CHILD = fileURLToPath(new URL('convert-child.ts', import.meta.url));
const FOLDER = fixtureFolder('llama');
const PROMPT = [5, 6, 7, 8];

function convertInChild(output: string, crashAt = '', limit = 'unlimited') {
  return spawnSync('bash', ['-c', `ulimit -f ${limit}; exec "$0" --import tsx "$1" "$2" "$3"`, process.execPath, CHILD, FOLDER, output], {
    env: { ...process.env, FLEXLLMGEN_CRASH_AT: crashAt },
    encoding: 'utf8',
  });
}

afterEach(() => {
  delete process.env['FLEXLLMGEN_CACHE'];
});

describe('a conversion that is killed', () => {
  it('goes on, and ends with the same file', async () => {
    await using temporary = await makeTemporaryFolder();
    const whole = join(temporary.path, 'whole.gguf');
    const killed = join(temporary.path, 'killed.gguf');
    expect(convertInChild(whole).status).toBe(0);
    // Each run gets a little further than the one before; the last two die beside the renaming.
    const points = [1, 2, 3, 5, 2, 4, 3, 1].map((n) => `conversion-piece:${n}`);
    for (const point of [...points, 'conversion-written', 'conversion-renamed']) {
      expect(convertInChild(killed, point).signal).toBe('SIGKILL');
      expect(existsSync(killed)).toBe(point === 'conversion-renamed');
    }
    await rm(killed);
    const { stdout, status } = convertInChild(killed);
    expect(status).toBe(0);
    expect(Number(stdout.split('\n')[0])).toBe(0); // its part was renamed away
    expect((await readFile(killed)).equals(await readFile(whole))).toBe(true);
    expect(await readdir(temporary.path)).toEqual(['killed.gguf', 'whole.gguf']);
  });

  it('does not write again what is on the disk', async () => {
    await using temporary = await makeTemporaryFolder();
    const output = join(temporary.path, 'model.gguf');
    convertInChild(output, 'conversion-piece:9');
    const { stdout } = convertInChild(output);
    expect(Number(stdout.split('\n')[0])).toBeGreaterThan(0);
    expect((await verifyModel(output)).damaged).toEqual([]);
  });

  it('begins anew when its journal belongs to another model', async () => {
    await using temporary = await makeTemporaryFolder();
    const output = join(temporary.path, 'model.gguf');
    convertInChild(output, 'conversion-piece:9');
    await convertModel(FOLDER, { type: 'f16', output });
    expect((await verifyModel(output)).damaged).toEqual([]);
  });

  it('keeps what it has when the disk is full', async () => {
    await using temporary = await makeTemporaryFolder();
    const output = join(temporary.path, 'model.gguf');
    const { stdout, status } = convertInChild(output, '', '60'); // blocks of 1 KiB
    expect(status).toBe(1);
    expect(stdout).toMatch(/disk-full/);
    expect(existsSync(output)).toBe(false);
    expect(convertInChild(output).status).toBe(0);
    expect((await verifyModel(output)).damaged).toEqual([]);
  });
});

describe('a converted file', () => {
  it('is verified tensor by tensor', async () => {
    await using temporary = await makeTemporaryFolder();
    const output = join(temporary.path, 'model.gguf');
    await convertModel(FOLDER, { type: 'q4', output });
    await using gguf = await openGguf(output);
    const { entries } = gguf;
    for (const [name, { start, byteLength, dtype }] of entries) {
      const file = await open(output, 'r+');
      const { buffer: before } = await file.read(Buffer.alloc(1), 0, 1, start + byteLength - 1);
      await file.write(Buffer.from([before[0]! ^ 1]), 0, 1, start + byteLength - 1);
      expect((await verifyModel(output)).damaged).toEqual([name]);
      await file.write(before, 0, 1, start + byteLength - 1);
      await file.close();
      expect(start % 4096).toBe(0);
      expect(dtype).toBe(/norm/.test(name) ? 'F32' : 'Q4_0'); // rows of 64 are no whole blocks of Q4_K
    }
    expect(await verifyModel(output)).toMatchObject({ tensors: entries.size, damaged: [] });
  });

  it('is not replaced by another model, unless it is forced', async () => {
    await using temporary = await makeTemporaryFolder();
    const output = join(temporary.path, 'model.gguf');
    expect(await convertModel(FOLDER, { type: 'q8', output })).toMatchObject({ written: true, file: output });
    expect(await convertModel(FOLDER, { type: 'q8', output })).toMatchObject({ written: false });
    await expect(convertModel(FOLDER, { type: 'f16', output })).rejects.toThrow(/exists and is not .*--force/);
    expect(await convertModel(FOLDER, { type: 'f16', output, force: true })).toMatchObject({
      written: true,
      types: [{ type: 'f16' }, { type: 'f32' }],
    });
  });

  it('says which type weights get that the wanted one does not fit', async () => {
    await using temporary = await makeTemporaryFolder();
    const notices: string[] = [];
    const onNotice = (notice: string): void => void notices.push(notice);
    const inspected = { compute: 'auto', kvType: 'auto', onNotice } as const;
    await convertModel(FOLDER, { type: 'q4', output: join(temporary.path, 'small.gguf'), onNotice });
    await inspectModel(FOLDER, { ...inspected, dtype: 'q6' });
    await inspectModel(FOLDER, { ...inspected, dtype: 'q8' });
    expect(notices).toEqual([
      '--dtype q4: rows of 64, 128 are no whole blocks of q4_k (256), so 16 weights are q4_0',
      '--dtype q6: rows of 64, 128 are no whole blocks of q6_k (256), so 16 weights are q8_0',
    ]);
  });

  it('can be converted again', async () => {
    await using temporary = await makeTemporaryFolder();
    const [first, second, direct] = ['first.gguf', 'second.gguf', 'direct.gguf'].map((name) => join(temporary.path, name)) as [
      string,
      string,
      string,
    ];
    await convertModel(FOLDER, { type: 'f32', output: first });
    await convertModel(first, { type: 'q8', output: second });
    await convertModel(FOLDER, { type: 'q8', output: direct });
    await using a = await openGguf(second);
    await using b = await openGguf(direct);
    expect(a.metadata.get('flexllmgen.tensor_sha256')).toEqual(b.metadata.get('flexllmgen.tensor_sha256'));
  });

  it.each([
    [NaN, 'q8', /blk\.0\.attn_q\.weight of layer 0: has a number that is not finite/],
    [1e30, 'f16', /blk\.0\.attn_q\.weight of layer 0: has a number beyond 65504/],
  ] as const)('is not made of %d as %s', async (value, type, message) => {
    await using temporary = await makeTemporaryFolder();
    const folder = await copyFixture('llama', temporary.path, {});
    const file = join(folder, 'model.safetensors');
    const bytes = await readFile(file);
    const start = 8 + Number(bytes.readBigUInt64LE(0));
    const header = JSON.parse(bytes.toString('utf8', 8, start)) as Record<string, { data_offsets: [number, number] }>;
    bytes.writeFloatLE(value, start + header['model.layers.0.self_attn.q_proj.weight']!.data_offsets[0] + 400);
    await writeFile(file, bytes);
    await expect(convertModel(folder, { type, output: join(temporary.path, 'model.gguf') })).rejects.toThrow(message);
    expect(existsSync(join(temporary.path, 'model.gguf'))).toBe(false);
  });
});

describe('the cache', () => {
  const tokens = async (options: object): Promise<readonly number[]> => {
    await using llm = await LLM.load(FOLDER, { compute: 'f32', threads: 1, ...options });
    const [result] = await llm.generate([PROMPT], { maxTokens: 8, ignoreEos: true });
    return result!.tokenIds;
  };

  it('gets a model once, whoever asks first, and it gives the same tokens', async () => {
    await using cache = await makeTemporaryFolder();
    process.env['FLEXLLMGEN_CACHE'] = cache.path;
    const options = { convert: 'always', dtype: 'q8' };
    const [first, second, direct] = await Promise.all([tokens(options), tokens(options), tokens({ convert: 'never', dtype: 'q8' })]);
    expect(first).toEqual(direct);
    expect(second).toEqual(direct);
    const files = await readdir(join(cache.path, 'models'));
    expect(files).toEqual([expect.stringMatching(/^llama-[0-9a-f]{16}-q8\.gguf$/)]);
  });

  it('is left alone by small models', async () => {
    await using cache = await makeTemporaryFolder();
    process.env['FLEXLLMGEN_CACHE'] = cache.path;
    await tokens({ dtype: 'q8' });
    expect(await readdir(cache.path)).toEqual([]);
  });

  it('that cannot be written is said to be so', async () => {
    await using cache = await makeTemporaryFolder();
    await writeFile(join(cache.path, 'file'), '');
    process.env['FLEXLLMGEN_CACHE'] = join(cache.path, 'file', 'below');
    await expect(tokens({ convert: 'always' })).rejects.toThrow(/ENOTDIR|EEXIST/);
  });
});
