import { readFileSync } from 'node:fs';
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { ggmlVocabulary } from '../../src/convert/vocabulary.ts';
import { encodeGgufHeader, type GgufEntry } from '../../src/formats/gguf/gguf-writer.ts';
import { readGpt2Files } from '../../src/tokenizer/gpt2-files.ts';
import { LlamaTokenizer } from '../../src/tokenizer/llama-vocabulary.ts';
import type { JsonObject } from '../../src/tokenizer/read-file.ts';
import { readSentencePieceFiles } from '../../src/tokenizer/sentencepiece-files.ts';
import { readTokenizerConfig } from '../../src/tokenizer/special-tokens.ts';
import { makeTemporaryFolder } from '../helpers/write-safetensors.ts';

interface Golden {
  readonly cases: { readonly text: string; readonly ids: number[] }[];
  readonly sentencepiece?: { readonly text: string; readonly ids: number[] }[];
}

const folderOf = (name: string) => join(import.meta.dirname, '../fixtures/tokenizers', name);
const read = (file: string) => JSON.parse(readFileSync(file, 'utf8')) as unknown;

async function vocabularyOf(name: string, vocabularySize: number): Promise<Map<string, GgufEntry>> {
  const folder = folderOf(name);
  const config = await readTokenizerConfig(folder);
  const content =
    (await readGpt2Files(folder, config)) ??
    (await readSentencePieceFiles(folder, config)) ??
    (read(join(folder, 'tokenizer.json')) as JsonObject);
  const roles = new Map([...config.roles].map(([role, token]) => [role, token.content]));
  return ggmlVocabulary({ file: folder, content, roles, vocabularySize });
}

async function encodeAll(vocabulary: ReadonlyMap<string, GgufEntry>, texts: readonly string[]) {
  await using temporary = await makeTemporaryFolder();
  const file = join(temporary.path, 'vocabulary.gguf');
  const metadata = new Map<string, GgufEntry>([['general.architecture', { type: 'string', value: 'llama' }], ...vocabulary]);
  await writeFile(file, encodeGgufHeader({ metadata, tensors: [] }).header);
  const llama = LlamaTokenizer.open(file, undefined);
  if (!llama) throw new Error('llama.cpp does not take the vocabulary');
  await using open = llama;
  const ids = await Promise.all(texts.map((text) => open.tokenizer.encode(text)));
  return { ids: ids.map((list) => [...list]), size: open.tokenizer.vocabularySize, endIds: open.endIds };
}

const SPECIAL = /<s>|<\/s>|<unk>|<pad>|\0/;

describe('llama.cpp with the vocabulary that is written', () => {
  it.each(['llama-bpe', 'opt-bytelevel'])('gives the golden ids of %s', async (name) => {
    const { cases } = read(join(folderOf(name), 'golden.json')) as Golden;
    const { ids, size } = await encodeAll(
      await vocabularyOf(name, 701),
      cases.map(({ text }) => text),
    );
    expect(size).toBe(701);
    expect(ids).toEqual(cases.map((golden) => golden.ids));
  });

  it('gives the ids of SentencePiece for tokenizer.model, special tokens aside', async () => {
    const { sentencepiece = [] } = read(join(folderOf('llama-spm-bpe'), 'golden.json')) as Golden;
    const cases = sentencepiece.filter(({ text }) => !SPECIAL.test(text));
    expect(cases.length).toBeGreaterThan(40);
    const { ids, endIds } = await encodeAll(
      await vocabularyOf('llama-spm-bpe', 900),
      cases.map(({ text }) => text),
    );
    expect(endIds).toEqual([2]);
    expect(ids).toEqual(cases.map((golden) => [1, ...golden.ids]));
  });
});

describe('ggmlVocabulary', () => {
  it('fills up to the size of the model and says what each token is', async () => {
    const entries = await vocabularyOf('opt-bytelevel', 640);
    expect((entries.get('tokenizer.ggml.tokens')!.value as string[]).slice(636)).toEqual([
      expect.any(String),
      '[PAD637]',
      '[PAD638]',
      '[PAD639]',
    ]);
    const types = entries.get('tokenizer.ggml.token_type')!.value as number[];
    expect([types[1], types[2], types[100], types[639]]).toEqual([3, 3, 1, 5]);
    expect(entries.get('tokenizer.ggml.pre')?.value).toBe('gpt-2');
    expect(entries.get('tokenizer.ggml.eos_token_id')?.value).toBe(2);
  });

  it('gives nothing for what llama.cpp would read in another way', async () => {
    expect((await vocabularyOf('llama-spm-unigram', 900)).size).toBe(0);
  });

  it('gives nothing for a tokenizer with more tokens than the model', async () => {
    expect(await vocabularyOf('opt-bytelevel', 600)).toEqual(new Map());
  });
});
