import { cp, open, readFile, writeFile } from 'node:fs/promises';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { fromBytes } from '../../src/formats/byte-source.ts';
import { readSafetensors } from '../../src/formats/safetensors.ts';
import { LLM } from '../../src/llm.ts';
import type { LoadOptions } from '../../src/llm/load-options.ts';
import { FormatError, NumericError } from '../../src/util/errors.ts';
import { fixtureFolder, GOLDEN_PARAMS, readGolden } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const F32: LoadOptions = { compute: 'f32', threads: 1 };
const HIDDEN = 64;
const golden = readGolden('opt');

type Edit = (folder: string) => Promise<unknown>;

/** Runs with a copy of the fixture after an edit of its files. */
async function withModel<T>(edit: Edit, use: (folder: string) => Promise<T>): Promise<T> {
  await using temporary = await makeTemporaryFolder();
  const folder = path.join(temporary.path, 'model');
  await cp(fixtureFolder('opt'), folder, { recursive: true });
  await edit(folder);
  return await use(folder);
}

const weightsOf = (folder: string): string => path.join(folder, 'model.safetensors');

/** Overwrites one element of a tensor. */
function setElement(tensor: string, element: number, value: number): Edit {
  return async (folder) => {
    const bytes = await readFile(weightsOf(folder));
    const entry = (await readSafetensors(fromBytes('model', bytes))).find(({ name }) => name.endsWith(tensor));
    bytes.writeFloatLE(value, entry!.start + 4 * element);
    await writeFile(weightsOf(folder), bytes);
  };
}

/** Edits the header, which keeps its length. */
function editHeader(change: (text: string) => string): Edit {
  return async (folder) => {
    const bytes = await readFile(weightsOf(folder));
    const end = 8 + Number(bytes.readBigUInt64LE());
    const text = bytes.toString('utf8', 8, end);
    bytes.write(change(text).padEnd(text.length).slice(0, text.length), 8);
    await writeFile(weightsOf(folder), bytes);
  };
}

const editConfig =
  (change: (config: Record<string, unknown>) => unknown): Edit =>
  async (folder) => {
    const file = path.join(folder, 'config.json');
    await writeFile(file, JSON.stringify(change(JSON.parse(await readFile(file, 'utf8')) as Record<string, unknown>)));
  };

async function generate(folder: string): Promise<unknown> {
  await using llm = await LLM.load(folder, F32);
  return await llm.generate(
    [
      [5, 6],
      [7, 8, 9],
      [10, 11],
    ],
    { maxTokens: 3, ignoreEos: true },
  );
}

describe('NaN in the weights', () => {
  it.each<[string, number, number, string]>([
    ['layers.0.self_attn.q_proj.weight', 0, 0, 'layer 0'],
    ['layers.0.fc1.bias', 17, 0, 'layer 0'],
    ['layers.1.self_attn_layer_norm.weight', 1, 0, 'layer 1'],
    ['layers.1.fc2.weight', 33, 0, 'layer 1'],
    ['decoder.final_layer_norm.bias', 3, 0, 'head'],
    ['embed_tokens.weight', 8 * HIDDEN + 7, 1, 'embed'], // a token of row 1
    ['embed_tokens.weight', 600 * HIDDEN, 0, 'head'], // a token of no row
    ['embed_positions.weight', (2 + 2) * HIDDEN, 1, 'embed'], // the third position, which row 1 has
  ])('%s, element %i: row %i, %s', async (tensor, element, row, layer) => {
    const error: unknown = await withModel(setElement(tensor, element, NaN), (folder) => generate(folder).catch((cause: unknown) => cause));
    expect(error).toBeInstanceOf(NumericError);
    expect((error as NumericError).facts).toEqual({ row, layer });
    expect((error as NumericError).message).toContain(`row ${row}, ${layer}: the result is not a number`);
  });

  it('and infinity are reported alike', async () => {
    const edit = setElement('layers.1.fc2.weight', 0, Infinity);
    await expect(withModel(edit, generate)).rejects.toThrow(/row 0, layer 1: the result is not a number/);
  });

  it.each(['f32', 'f16'] as const)('do not reach later rows through pages of a cache in %s', async (kvType) => {
    // Prompt 6 reaches this position, the others do not; prompts of 64 tokens and more have tiles of queries.
    const position = 100;
    const prompts = [5, 3, 2, 4].map((i) => golden.prompts[i]!);
    await withModel(setElement('embed_positions.weight', (2 + position) * HIDDEN, NaN), async (folder) => {
      await using llm = await LLM.load(folder, { ...F32, kvType });
      const clean = await llm.generate(prompts, GOLDEN_PARAMS);
      await expect(llm.generate([golden.prompts[6]!], GOLDEN_PARAMS)).rejects.toThrow(/row 0, embed/);
      const again = await llm.generate(prompts, GOLDEN_PARAMS);
      expect(again).toEqual(clean);
    });
  });
});

describe('a model folder that is not what it claims to be', () => {
  const truncateAt =
    (bytes: number): Edit =>
    async (folder) => {
      const file = await open(weightsOf(folder), 'r+');
      await file.truncate(bytes);
      await file.close();
    };
  const setHeaderLength =
    (length: bigint): Edit =>
    async (folder) => {
      const bytes = await readFile(weightsOf(folder));
      bytes.writeBigUInt64LE(length);
      await writeFile(weightsOf(folder), bytes);
    };
  it.each<[string, Edit, RegExp]>([
    ['data cut off', truncateAt(500_000), /model\.safetensors: .*end at byte \d+, the file at 500000/],
    ['header cut off', truncateAt(100), /model\.safetensors: /],
    ['nothing in the file', truncateAt(0), /model\.safetensors: /],
    ['a header of 2^60 bytes', setHeaderLength(1n << 60n), /model\.safetensors: .*1152921504606846976/],
    ['a tensor missing', editHeader((text) => text.replace('layers.1.fc1.weight', 'layers.1.fc9.weight')), /layers\.1\.fc1\.weight/],
    ['a tensor of another shape', editHeader((text) => text.replace('[160,64]', '[64,160]')), /\[64, 160\]/],
    ['a tensor out of range', editHeader((text) => text.replace(/\[0,(\d+)\]/, '[9,$1]')), /model\.safetensors: /],
    ['another size in the configuration', editConfig((config) => ({ ...config, ffn_dim: 176 })), /\[176, 64\]/],
    ['an unknown family', editConfig((config) => ({ ...config, model_type: 'elman' })), /"model_type": one of opt.* expected, got "elman"/],
    ['a configuration that is no JSON', (folder) => writeFile(path.join(folder, 'config.json'), '{"model_type": '), /config\.json: /],
    ['a configuration that is a list', editConfig(() => []), /config\.json/],
  ])('%s', async (_what, edit, message) => {
    const error: unknown = await withModel(edit, (folder) => generate(folder).catch((cause: unknown) => cause));
    expect(error).toBeInstanceOf(FormatError);
    expect((error as FormatError).message).toMatch(message);
  });
});
