/** `flexllmgen convert`: a model as one GGUF file, under a name or in the cache. */
import { stat } from 'node:fs/promises';
import { outputTensors } from '../convert/output-tensors.ts';
import { openGguf } from '../formats/gguf/gguf-file.ts';
import { byteLengthOf, elementCount, type WeightType } from '../tensor/dtype.ts';
import { fileExists } from '../util/durable-file.ts';
import { UsageError } from '../util/errors.ts';
import { Lifetime } from '../util/lifetime.ts';
import type { StorageType } from '../weights/storage-type.ts';
import { FINGERPRINT_KEY } from '../convert/metadata.ts';
import { cachedFile } from './model-cache.ts';
import type { ModelSource } from './model-source.ts';
import { openNamedSource, type PreparationOptions, writeOptions } from './named-source.ts';
import { convertSource, recodedSource } from './stored-source.ts';

export interface ConvertModelOptions extends PreparationOptions {
  readonly type: StorageType;
  /** Default: a name in the cache, where the model is found when it is run. */
  readonly output?: string;
  /** Replace a file with another model. */
  readonly force?: boolean;
}

export interface ConversionReport {
  readonly file: string;
  readonly bytes: number;
  readonly seconds: number;
  /** False if the file was there. */
  readonly written: boolean;
  /** Largest first. */
  readonly types: readonly { readonly type: WeightType; readonly tensors: number; readonly bytes: number }[];
}

/** @throws {UsageError} when the output is another model's; {FormatError} for a damaged source; {FlexError} `disk-full` */
export async function convertModel(name: string, options: ConvertModelOptions): Promise<ConversionReport> {
  await using lifetime = new Lifetime();
  const began = performance.now();
  const source = recodedSource(await openNamedSource(name, lifetime, options), options.type, options.onNotice);
  const file = options.output ?? (await cachedFile(name, source.fingerprint, options.type));
  const written = await isToBeWritten(file, source, options.force ?? false);
  if (written) await convertSource(source, file, { ...writeOptions(options), onNotice: options.onNotice });
  const seconds = (performance.now() - began) / 1000;
  return { file, bytes: (await stat(file)).size, seconds, written, types: sizesByType(source) };
}

async function isToBeWritten(file: string, { fingerprint, name }: ModelSource, force: boolean): Promise<boolean> {
  if (force || !(await fileExists(file))) return true;
  if (await isSame(file, fingerprint)) return false;
  throw new UsageError(`${file} exists and is not ${name} in this type; --force replaces it`);
}

async function isSame(file: string, fingerprint: string): Promise<boolean> {
  await using gguf = await openGguf(file).catch(() => undefined);
  return gguf?.metadata.get(FINGERPRINT_KEY) === fingerprint;
}

function sizesByType({ model, weights }: ModelSource): ConversionReport['types'] {
  const sizes = new Map<WeightType, { tensors: number; bytes: number }>();
  for (const { dtype, shape } of outputTensors(model, weights)) {
    const size = sizes.get(dtype) ?? { tensors: 0, bytes: 0 };
    sizes.set(dtype, { tensors: size.tensors + 1, bytes: size.bytes + byteLengthOf(dtype, elementCount(shape)) });
  }
  return [...sizes].map(([type, size]) => ({ type, ...size })).toSorted((a, b) => b.bytes - a.bytes);
}
