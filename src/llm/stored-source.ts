/** A model in the type that was asked for: converted once into a file, or on its way into memory. */
import { setTimeout as sleep } from 'node:timers/promises';
import { FINGERPRINT_KEY, TOKENIZER_KEY, typeMetadata } from '../convert/metadata.ts';
import { outputTensors } from '../convert/output-tensors.ts';
import { writeModel, type WriteOptions } from '../convert/write-model.ts';
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import { byteLengthOf, elementCount } from '../tensor/dtype.ts';
import { fileExists } from '../util/durable-file.ts';
import { FlexError, UsageError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import { LockedError } from '../util/lock.ts';
import { errorCode } from '../util/system-errors.ts';
import { recodedWeights } from '../weights/recoded-weights.ts';
import { type ConvertMode, fallbackNotice, type StorageType, storageTypeOf } from '../weights/storage-type.ts';
import { openGgufSource } from './gguf-source.ts';
import { cachedFile } from './model-cache.ts';
import type { ModelSource } from './model-source.ts';
import { openNamedSource, type PreparationOptions, writeOptions } from './named-source.ts';

export interface StorageOptions extends PreparationOptions {
  /** Default `auto`, the types as they are. */
  readonly type?: StorageType | undefined;
  /** Default `auto`. */
  readonly convert?: ConvertMode | undefined;
}

/** Smaller models are read as fast from what they are. */
const WORTH_CONVERTING_BYTES = 2 ** 30;
const WAIT_MS = 500;

/** Opens a model as `openNamedSource` does, in the type that `options` ask for. @throws as that */
export async function openStoredSource(name: string, lifetime: Lifetime, options: StorageOptions = {}): Promise<ModelSource> {
  const { type = 'auto', convert = 'auto' } = options;
  const own = new Lifetime();
  lifetime.use(own);
  const source = await openNamedSource(name, own, options);
  if (source.isGguf && type === 'auto') return source;
  const recoded = recodedSource(source, type, options.onNotice);
  if (convert === 'never' || (convert === 'auto' && storedBytes(recoded) <= WORTH_CONVERTING_BYTES))
    return type === 'auto' ? source : recoded;
  try {
    const path = await convertedFile(recoded, options);
    await own[Symbol.asyncDispose]();
    return { ...(await openGgufSource(path, lifetime, options)), name };
  } catch (cause) {
    if (convert === 'always' || !isRoomProblem(cause)) throw cause;
    options.onNotice?.(`${name} runs without conversion: ${cause.message}`);
    return type === 'auto' ? source : recoded;
  }
}

/** The same model, its weights recoded while they are read. @param onNotice hears of weights that the type does not fit */
export function recodedSource(source: ModelSource, type: StorageType, onNotice?: PreparationOptions['onNotice']): ModelSource {
  const notice = fallbackNotice(
    source.model.layers.flatMap(({ weights }) => weights),
    type,
  );
  if (notice !== undefined) onNotice?.(notice);
  const fingerprint = type === 'auto' ? source.fingerprint : `${source.fingerprint}-${type}`;
  return {
    ...source,
    weights: recodedWeights(source.weights, (spec, stored) => storageTypeOf(spec, stored, type), source.name),
    fingerprint,
  };
}

/** What of a model other programs will not find in its file; this one does. */
const WITHOUT_VOCABULARY = 'llama.cpp knows no tokenizer like this one, so other programs will take and give token ids only';

export interface ConversionOptions extends WriteOptions {
  readonly onNotice?: PreparationOptions['onNotice'];
}

/** Writes a model as one GGUF file. @throws {UsageError} for random weights; else as `writeModel` */
export async function convertSource(source: ModelSource, path: string, options: ConversionOptions): Promise<void> {
  if (!source.metadata) throw new UsageError(`${source.name}: random weights are not converted`);
  const tensors = outputTensors(source.model, source.weights);
  const metadata = new Map<string, GgufEntry>([
    ...(await source.metadata()),
    ...typeMetadata(tensors),
    [FINGERPRINT_KEY, { type: 'string', value: source.fingerprint }],
  ]);
  if (metadata.has(TOKENIZER_KEY) && metadata.get('tokenizer.ggml.model')?.value === 'none')
    options.onNotice?.(`${source.name}: ${WITHOUT_VOCABULARY}`);
  await writeModel(path, { metadata, tensors }, options);
}

/** The file of the cache, made if it is not there; waits for another process that makes it. */
async function convertedFile(source: ModelSource, options: StorageOptions): Promise<string> {
  const path = await cachedFile(source.name, source.fingerprint, options.type ?? 'auto');
  for (let told = false; !(await fileExists(path)); told = true) {
    options.signal?.throwIfAborted();
    try {
      if (!told) options.onNotice?.(`converting ${source.name} once, into ${path}`);
      await convertSource(source, path, { ...writeOptions(options), onNotice: options.onNotice });
    } catch (error) {
      if (!(error instanceof LockedError)) throw error;
      if (!told) options.onNotice?.(`waiting: ${error.message}`);
      await sleep(WAIT_MS, undefined, { signal: options.signal });
    }
  }
  return path;
}

export function storedBytes({ model, weights }: Pick<ModelSource, 'model' | 'weights'>): number {
  return outputTensors(model, weights).reduce((sum, { dtype, shape }) => sum + byteLengthOf(dtype, elementCount(shape)), 0);
}

const READ_ONLY = new Set(['EACCES', 'EPERM', 'EROFS', 'ENOTDIR', 'EEXIST']);

/** A cache that cannot be written, or has no room. */
function isRoomProblem(cause: unknown): cause is Error {
  if (cause instanceof FlexError && cause.code === 'disk-full') return true;
  const code = errorCode(cause) ?? errorCode((cause as Error).cause);
  return code !== undefined && READ_ONLY.has(code);
}
