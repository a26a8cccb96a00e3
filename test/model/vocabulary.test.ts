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
import { loadTokenizer } from '../../src/tokenizer/tokenizer.ts';
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

const CONTRACTIONS = String.raw`(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|`;
const REST = String.raw`| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+`;
const byPattern = (regex: string) => ({ type: 'Split', pattern: { Regex: regex }, behavior: 'Isolated', invert: false });

/** Files of byte-level BPE whose text is split by `splitter` first. */
async function splitBy(folder: string, splitter: JsonObject, usesRegex: boolean): Promise<JsonObject> {
  const source = folderOf('opt-bytelevel');
  const content = (await readGpt2Files(source, await readTokenizerConfig(source)))!;
  const bytes = { type: 'ByteLevel', add_prefix_space: false, trim_offsets: true, use_regex: usesRegex };
  const changed = { ...content, post_processor: null, pre_tokenizer: { type: 'Sequence', pretokenizers: [splitter, bytes] } };
  await writeFile(join(folder, 'tokenizer.json'), JSON.stringify(changed));
  return changed;
}

describe('ways of splitting text', () => {
  it.each<[string, JsonObject, boolean]>([
    ['qwen2', byPattern(`${CONTRACTIONS}\\p{N}${REST}`), false],
    ['dbrx', byPattern(`${CONTRACTIONS}\\p{N}{1,3}${REST}`), false],
    ['smollm', { type: 'Digits', individual_digits: true }, true],
  ])('%s splits in llama.cpp as in the tokenizers library', async (name, splitter, usesRegex) => {
    await using folder = await makeTemporaryFolder();
    const content = await splitBy(folder.path, splitter, usesRegex);
    const vocabulary = ggmlVocabulary({ file: folder.path, content, roles: new Map(), vocabularySize: 640 });
    expect(vocabulary.get('tokenizer.ggml.pre')?.value).toBe(name);
    const { cases } = read(join(folderOf('opt-bytelevel'), 'golden.json')) as Golden;
    const texts = [...cases.map(({ text }) => text).filter((text) => !SPECIAL.test(text)), "I'LL pay 12345.67\n\n\tin 1000000 days  "];
    const tokenizer = (await loadTokenizer(folder.path))!;
    const expected = await Promise.all(texts.map((text) => tokenizer.encode(text)));
    const { ids } = await encodeAll(vocabulary, texts);
    expect(ids).toEqual(expected.map((list) => [...list]));
  });

  it.each<[string, JsonObject, boolean]>([
    ['an unknown pattern', byPattern(String.raw`\p{L}+|\s+`), false],
    ['single digits not asked for', { type: 'Digits', individual_digits: false }, true],
  ])('%s has no name', async (_what, splitter, usesRegex) => {
    await using folder = await makeTemporaryFolder();
    const content = await splitBy(folder.path, splitter, usesRegex);
    expect(ggmlVocabulary({ file: folder.path, content, roles: new Map(), vocabularySize: 640 })).toEqual(new Map());
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
