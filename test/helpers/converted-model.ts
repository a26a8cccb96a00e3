/** Model folders as the GGUF files that the converter makes of them. */
import { join } from 'node:path';
import { typeMetadata } from '../../src/convert/metadata.ts';
import { outputTensors } from '../../src/convert/output-tensors.ts';
import { writeModel } from '../../src/convert/write-model.ts';
import { openModelSource } from '../../src/llm/model-source.ts';
import { recodedSource } from '../../src/llm/stored-source.ts';
import { CONFIG_KEY } from '../../src/models/registry.ts';
import { Lifetime } from '../../src/util/lifetime.ts';
import type { StorageType } from '../../src/weights/storage-type.ts';

export interface ConvertFolderOptions {
  readonly type?: StorageType;
  /** Leave out `config.json`, so that the keys of GGUF are all that the file says. Default false. */
  readonly keysOnly?: boolean;
}

/** @returns the file, inside of `target` */
export async function convertFolder(folder: string, target: string, options: ConvertFolderOptions = {}): Promise<string> {
  const file = join(target, 'converted.gguf');
  await using lifetime = new Lifetime();
  const source = recodedSource(await openModelSource(folder, lifetime), options.type ?? 'auto');
  const tensors = outputTensors(source.model, source.weights);
  const metadata = new Map([...(await source.metadata!()), ...typeMetadata(tensors)]);
  if (options.keysOnly) metadata.delete(CONFIG_KEY);
  await writeModel(file, { metadata, tensors });
  return file;
}
