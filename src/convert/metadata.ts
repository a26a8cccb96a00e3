/** What a converted file says of its model: in GGUF's keys for other programs, and in Hugging Face's words, which say more, for this one. */
import type { GgufMetadata, GgufTypes } from '../formats/gguf/gguf-metadata.ts';
import { ALIGNMENT_KEY } from '../formats/gguf/gguf-types.ts';
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import type { JsonObject } from '../formats/json-file.ts';
import type { Model } from '../models/model.ts';
import { CONFIG_KEY } from '../models/registry.ts';
import { elementCount, type WeightType } from '../tensor/dtype.ts';
import { CHECKSUM_KEYS } from './checksums.ts';
import type { OutputTensor } from './output-tensors.ts';

export const GENERATION_CONFIG_KEY = 'generation_config.huggingface.json';
export const TOKENIZER_KEY = 'tokenizer.huggingface.json';
export const CHAT_TEMPLATE_KEY = 'tokenizer.chat_template';
/** Tells which model, in which type, a file was made from; the same for all ways of running it. */
export const FINGERPRINT_KEY = 'flexllmgen.fingerprint';

export interface FolderFacts {
  /** Such as the name of the folder. */
  readonly name: string;
  readonly config: JsonObject;
  readonly generationConfig?: JsonObject | undefined;
  /** As a `tokenizer.json`. */
  readonly tokenizer?: string | undefined;
  readonly chatTemplate?: string | undefined;
  readonly vocabulary: ReadonlyMap<string, GgufEntry>;
}

const text = (value: string): GgufEntry => ({ type: 'string', value });

/** Metadata of a file with the model of a Hugging Face folder. */
export function folderMetadata(facts: FolderFacts, model: Pick<Model, 'family' | 'gguf'>): Map<string, GgufEntry> {
  const { generationConfig, tokenizer, chatTemplate } = facts;
  return new Map<string, GgufEntry>([
    ['general.architecture', text(model.gguf?.architecture ?? model.family)],
    ['general.type', text('model')],
    ['general.name', text(facts.name)],
    ...(model.gguf?.keys ?? []),
    [CONFIG_KEY, text(JSON.stringify(facts.config))],
    ...optional(GENERATION_CONFIG_KEY, generationConfig && JSON.stringify(generationConfig)),
    ...optional(TOKENIZER_KEY, tokenizer),
    ...optional(CHAT_TEMPLATE_KEY, chatTemplate),
    // llama.cpp takes a model without a vocabulary only if the file says so.
    ...(facts.vocabulary.size > 0 ? facts.vocabulary : [['tokenizer.ggml.model', text('none')] as const]),
  ]);
}

const optional = (key: string, value: string | undefined): [string, GgufEntry][] => (value === undefined ? [] : [[key, text(value)]]);

/** Of one file, of which there may have been several, and of weights that change their types. */
const REPLACED = new Set([ALIGNMENT_KEY, ...Object.values(CHECKSUM_KEYS), 'general.file_type', 'general.quantization_version']);

/** Metadata of a GGUF file for another one with the same model. */
export function ggufMetadata(metadata: GgufMetadata, types: GgufTypes): Map<string, GgufEntry> {
  const kept = [...metadata].filter(([key]) => !REPLACED.has(key) && !key.startsWith('split.'));
  return new Map(kept.map(([key, value]) => [key, { type: types.get(key)!, value } as GgufEntry]));
}

/** `llama_ftype` of llama.h */
const FILE_TYPES: Readonly<Partial<Record<WeightType, number>>> = {
  f32: 0,
  f16: 1,
  q4_0: 2,
  q4_1: 3,
  q8_0: 7,
  q5_0: 8,
  q4_k: 15,
  q5_k: 17,
  q6_k: 18,
  bf16: 32,
};

/** What the types of the tensors add: other programs show them. */
export function typeMetadata(tensors: readonly Pick<OutputTensor, 'dtype' | 'shape'>[]): [string, GgufEntry][] {
  const sizes = new Map<WeightType, number>();
  for (const { dtype, shape } of tensors) sizes.set(dtype, (sizes.get(dtype) ?? 0) + elementCount(shape));
  const [most] = [...sizes].toSorted((a, b) => b[1] - a[1]);
  const fileType = most && FILE_TYPES[most[0]];
  return [
    ...(fileType === undefined ? [] : [['general.file_type', { type: 'u32', value: fileType }] as [string, GgufEntry]]),
    ['general.quantization_version', { type: 'u32', value: 2 }],
  ];
}
