import { readFileSync } from 'node:fs';
import { cp, mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { Tokenizer as Binding } from 'tokenizers';
import { afterAll, beforeAll } from 'vitest';
import { readGpt2Files } from '../../../src/tokenizer/gpt2-files.ts';
import { readTokenizerConfig } from '../../../src/tokenizer/special-tokens.ts';
import { loadTokenizer, type Tokenizer } from '../../../src/tokenizer/tokenizer.ts';

/** Files of the tokenizer of OPT models, with golden values beside them. */
export const OPT: string = fileURLToPath(new URL('../../fixtures/tokenizers/opt-bytelevel', import.meta.url));

export interface GoldenCase {
  readonly text: string;
  readonly ids: number[];
  readonly ids_no_special: number[];
  readonly decoded: string;
  readonly decoded_all: string;
}
export const cases: readonly GoldenCase[] = (JSON.parse(readFileSync(join(OPT, 'golden.json'), 'utf8')) as { cases: GoldenCase[] }).cases;

/** The library itself, given our description of the OPT tokenizer: the truth for decoding. */
export async function optBinding(): Promise<Binding> {
  return Binding.fromString(JSON.stringify(await readGpt2Files(OPT, await readTokenizerConfig(OPT))));
}

export async function load(folder: string): Promise<Tokenizer> {
  const tokenizer = await loadTokenizer(folder);
  if (tokenizer === undefined) throw new Error(`no tokenizer in ${folder}`);
  return tokenizer;
}

/** Copies of the OPT folder with some files replaced; they go when the tests of the file end. */
export function useVariants(): (files: Readonly<Record<string, string | undefined>>) => Promise<string> {
  let scratch: string;
  beforeAll(async () => {
    scratch = await mkdtemp(join(tmpdir(), 'tokenizer '));
  });
  afterAll(() => rm(scratch, { recursive: true }));
  return async (files) => {
    const folder = await mkdtemp(join(scratch, 'variant-'));
    await cp(OPT, folder, { recursive: true });
    for (const [file, content] of Object.entries(files)) {
      await (content === undefined ? rm(join(folder, file)) : writeFile(join(folder, file), content));
    }
    return folder;
  };
}

export const stream = (tokenizer: Tokenizer, ids: ArrayLike<number>, skipSpecialTokens: boolean): string[] => {
  const decoder = tokenizer.streamDecoder({ skipSpecialTokens });
  return [...Array.from(ids, (id) => decoder.push(id)), decoder.end()];
};
