/** Finds what a user names: a GGUF file, a model folder, the bundled model, or, for random weights, a published shape. */
import { basename, resolve } from 'node:path';
import { folderMetadata } from '../convert/metadata.ts';
import { ggmlVocabulary } from '../convert/vocabulary.ts';
import { type Checkpoint, openCheckpoint } from '../formats/checkpoint.ts';
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import type { Model } from '../models/model.ts';
import { PUBLISHED_OPT_NAMES, publishedConfig } from '../models/opt-sizes.ts';
import { buildModel } from '../models/registry.ts';
import type { GenerationParams } from '../requests.ts';
import { type ChatTemplate, loadChatTemplate, readChatTemplate } from '../tokenizer/chat-template.ts';
import { loadEndTokenIds } from '../tokenizer/end-tokens.ts';
import { readTokenizerConfig } from '../tokenizer/special-tokens.ts';
import { type Tokenizer, loadTokenizer, readTokenizerContent } from '../tokenizer/tokenizer.ts';
import type { FloatType } from '../tensor/dtype.ts';
import { BUNDLED_MODEL, BUNDLED_NAME } from '../util/bundled.ts';
import { UsageError } from '../util/errors.ts';
import type { Lifetime } from '../util/lifetime.ts';
import { checkpointWeights } from '../weights/checkpoint-weights.ts';
import { dummyWeights } from '../weights/dummy-weights.ts';
import type { WeightSource } from '../weights/weight-source.ts';
import { openGgufSource } from './gguf-source.ts';
import { recommendedParams, recommendedStopIds } from './params.ts';

export interface ModelSource {
  readonly name: string;
  readonly model: Model;
  readonly weights: WeightSource;
  readonly tokenizer?: Tokenizer;
  readonly chatTemplate?: ChatTemplate;
  /** Ids that end a completion: the model's and the tokenizer's folder's. */
  readonly stopIds: ReadonlySet<number>;
  readonly recommended: GenerationParams;
  /** Changes with configuration, tokenizer and weights. */
  readonly fingerprint: string;
  /** It is in a GGUF file already. */
  readonly isGguf?: boolean;
  /** Of a GGUF file with this model. Missing for random weights. */
  readonly metadata?: () => Promise<ReadonlyMap<string, GgufEntry>>;
}

/** Random weights are stored as the published ones are, unless another type is asked for. */
const DUMMY_TYPE: FloatType = 'f16';

export interface SourceOptions {
  /** Whether the bytes of a file with checksums are compared with them when they are read for the first time. Default true. */
  readonly checksums?: boolean | undefined;
}

/** Opens a GGUF file, a folder, or the bundled model by its name. Files stay open as long as `lifetime`. @throws {UsageError} {FormatError} */
export async function openModelSource(name: string, lifetime: Lifetime, options: SourceOptions = {}): Promise<ModelSource> {
  if (name.toLowerCase().endsWith('.gguf')) return openGgufSource(name, lifetime, options);
  const folder = name === BUNDLED_NAME ? BUNDLED_MODEL : name;
  const checkpoint = lifetime.use(await openCheckpoint(folder).catch((error: unknown) => Promise.reject(hintAtShape(name, error))));
  const model = buildModel(checkpoint.config, `${folder}/config.json`);
  const [tokenizer, chatTemplate] = await Promise.all([loadTokenizer(folder), loadChatTemplate(folder)]);
  const endIds = tokenizer ? await loadEndTokenIds(folder, tokenizer) : [];
  return {
    name,
    model,
    weights: checkpointWeights(checkpoint),
    ...(tokenizer && { tokenizer }),
    ...(chatTemplate && { chatTemplate }),
    stopIds: new Set([...model.eosTokenIds, ...recommendedStopIds(checkpoint.generationConfig), ...endIds]),
    recommended: recommendedParams(checkpoint.generationConfig),
    fingerprint: await checkpoint.fingerprint(),
    metadata: () => describeFolder(checkpoint, model),
  };
}

async function describeFolder({ folder, config, generationConfig }: Checkpoint, model: Model): Promise<ReadonlyMap<string, GgufEntry>> {
  const [tokenizer, chatTemplate, { roles }] = await Promise.all([
    readTokenizerContent(folder),
    readChatTemplate(folder),
    readTokenizerConfig(folder),
  ]);
  const texts = new Map([...roles].map(([role, { content }]) => [role, content]));
  const { vocabularySize } = model;
  const vocabulary = tokenizer ? ggmlVocabulary({ ...tokenizer, roles: texts, vocabularySize }) : new Map<string, GgufEntry>();
  const facts = {
    name: basename(resolve(folder)),
    config,
    generationConfig,
    tokenizer: tokenizer?.text,
    chatTemplate: chatTemplate?.source,
  };
  return folderMetadata({ ...facts, vocabulary }, model);
}

/** Who names a shape and no folder may have forgotten the flag. */
function hintAtShape(name: string, error: unknown): unknown {
  if (!(error instanceof UsageError) || !publishedConfig(name)) return error;
  return new UsageError(`${error.message}; with --dummy, ${name} is a known shape with random weights`, error.facts, { cause: error });
}

/** A published shape with random weights; prompts are token ids. @throws {UsageError} listing the shapes */
export function dummyModelSource(name: string, dtype: FloatType = DUMMY_TYPE): ModelSource {
  const config = publishedConfig(name);
  if (!config) throw new UsageError(`${name}: no published shape; known are ${PUBLISHED_OPT_NAMES.join(', ')}`);
  const model = buildModel(config, name);
  const fingerprint = `random ${name} ${dtype}`;
  return { name, model, weights: dummyWeights({ dtype }), stopIds: new Set(model.eosTokenIds), recommended: {}, fingerprint };
}
