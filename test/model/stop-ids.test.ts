import { cp, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { openModelSource } from '../../src/llm/model-source.ts';
import { convertModel } from '../../src/llm/convert-model.ts';
import { Lifetime } from '../../src/util/lifetime.ts';
import { fixtureFolder } from '../helpers/golden.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

const TOKENIZER = join(import.meta.dirname, '../fixtures/tokenizers/llama-bpe');

/** A Llama whose configuration, generation settings and tokenizer each name other ends. */
async function makeFolder(path: string): Promise<void> {
  await cp(fixtureFolder('llama'), path, { recursive: true });
  await cp(TOKENIZER, path, { recursive: true });
  await writeFile(join(path, 'generation_config.json'), JSON.stringify({ eos_token_id: [11, 12] }));
}

it('a folder stops at the ends of its configuration, its generation settings and its tokenizer, converted or not', async () => {
  await using folder = await makeTemporaryFolder();
  const model = join(folder.path, 'model');
  await makeFolder(model);
  await using lifetime = new Lifetime();
  const source = await openModelSource(model, lifetime);
  const ends = [...source.tokenizer!.specialIds].filter((id) => /eot|end|<\/s>/.test(source.tokenizer!.tokenText(id)));
  expect(ends.length).toBeGreaterThan(0);
  const expected = new Set([...source.model.eosTokenIds, 11, 12, ...ends]);
  expect(source.stopIds).toEqual(expected);
  const output = join(folder.path, 'model.gguf');
  const notices: string[] = [];
  await convertModel(model, { type: 'auto', output, onNotice: (notice) => notices.push(notice) });
  expect(notices).toEqual([]);
  expect((await openModelSource(output, lifetime)).stopIds).toEqual(expected);
});
