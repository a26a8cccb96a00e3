/** The tokenizer that a GGUF file carries: a `tokenizer.json`, else a vocabulary in llama.cpp's form, which llama.cpp itself reads best. */
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { GgufMetadata } from '../formats/gguf/gguf-metadata.ts';
import { encodeGgufHeader } from '../formats/gguf/gguf-writer.ts';
import { type ChatTemplate, createChatTemplate } from '../tokenizer/chat-template.ts';
import { endTokenIds } from '../tokenizer/end-tokens.ts';
import { LlamaTokenizer, type SentencePieces } from '../tokenizer/llama-vocabulary.ts';
import { parseTokenizer, type Tokenizer } from '../tokenizer/tokenizer.ts';
import { FormatError } from '../util/errors.ts';
import type { Lifetime } from '../util/lifetime.ts';
import { quote } from '../formats/quote.ts';
import { checkVocabularyMetadata } from './gguf-vocabulary.ts';

export interface GgufTokenizer {
  readonly tokenizer: Tokenizer;
  /** Ids that end a text, beside those of the model's configuration. */
  readonly endIds: readonly number[];
  readonly chatTemplate?: ChatTemplate;
}

/** Undefined when the file has no vocabulary; such a model serves prompts of token ids. @throws {FormatError} naming the key, {NativeError} */
export async function openGgufTokenizer(file: string, metadata: GgufMetadata, lifetime: Lifetime): Promise<GgufTokenizer | undefined> {
  const kind = metadata.get('tokenizer.ggml.model');
  const json = metadata.get('tokenizer.huggingface.json');
  const chat = chatOf(file, metadata);
  if (typeof json === 'string') {
    const tokenizer = await parseTokenizer(file, json);
    return { tokenizer, endIds: [...new Set([...statedEnds(metadata), ...endTokenIds(tokenizer)])], ...chat };
  }
  if (kind === undefined || kind === 'none' || kind === 'no_vocab') return undefined;
  const vocabulary = checkVocabularyMetadata(file, metadata);
  const llama = await loadVocabulary(encodeGgufHeader({ metadata: vocabulary.entries, tensors: [] }).header, vocabulary.sentencePieces);
  if (!llama) {
    const pre = metadata.get('tokenizer.ggml.pre');
    const named = typeof pre === 'string' ? quote(pre) : 'missing';
    throw new FormatError(file, `llama.cpp does not take the vocabulary; tokenizer.ggml.pre is ${named}, perhaps it is not known`);
  }
  lifetime.use(llama);
  return { tokenizer: llama.tokenizer, endIds: llama.endIds, ...chat };
}

/** Ids that the file names. */
function statedEnds(metadata: GgufMetadata): number[] {
  const ids = ['eos', 'eot', 'eom'].map((role) => metadata.get(`tokenizer.ggml.${role}_token_id`));
  return ids.filter((id): id is number => typeof id === 'number' && Number.isInteger(id));
}

function chatOf(file: string, metadata: GgufMetadata): Pick<GgufTokenizer, 'chatTemplate'> {
  const template = metadata.get('tokenizer.chat_template');
  const tokens = metadata.get('tokenizer.ggml.tokens');
  if (typeof template !== 'string') return {};
  const special = ['bos', 'eos', 'unknown', 'padding'].flatMap((role): [string, string][] => {
    const id = metadata.get(`tokenizer.ggml.${role}_token_id`);
    const token = typeof id === 'number' && Array.isArray(tokens) ? (tokens as readonly unknown[])[id] : undefined;
    return typeof token === 'string' ? [[`${{ unknown: 'unk', padding: 'pad' }[role] ?? role}_token`, token]] : [];
  });
  return { chatTemplate: createChatTemplate(template, Object.fromEntries(special), file) };
}

/** llama.cpp reads only files. What it gets was written here, from checked values; never the user's file. */
async function loadVocabulary(bytes: Uint8Array, sentencePieces: SentencePieces | undefined): Promise<LlamaTokenizer | undefined> {
  const folder = await mkdtemp(join(tmpdir(), 'flexllmgen-vocabulary-'));
  try {
    const file = join(folder, 'vocabulary.gguf');
    await writeFile(file, bytes, { mode: 0o600 });
    return LlamaTokenizer.open(file, sentencePieces);
  } finally {
    await rm(folder, { recursive: true, force: true });
  }
}
