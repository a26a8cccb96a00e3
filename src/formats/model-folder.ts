import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { FormatError, UsageError } from '../util/errors.ts';
import { errorCode } from './error-code.ts';
import { type JsonObject, readJsonObject } from './json-file.ts';
import { MAX_CONFIG_BYTES } from './limits.ts';
import { quote } from './quote.ts';

/** What a Hugging Face folder says of its model, without the weights. */
export interface ModelFolder {
  readonly folder: string;
  /** Names of what the folder holds. */
  readonly names: ReadonlySet<string>;
  /** Path of `config.json`, for messages. */
  readonly configFile: string;
  readonly config: JsonObject;
  /** Content of `generation_config.json`. */
  readonly generationConfig: JsonObject | undefined;
}

/**
 * @throws {UsageError} when `folder` is missing or is no folder
 * @throws {FormatError} when its `config.json` is missing, or a configuration is not a JSON object
 */
export async function readModelFolder(folder: string): Promise<ModelFolder> {
  const names = new Set(await list(folder));
  const configFile = join(folder, 'config.json');
  if (!names.has('config.json'))
    throw new FormatError(folder, `has no config.json; a model folder as Hugging Face publishes it is expected${ggufHint(names)}`);
  const config = await readJsonObject(configFile, MAX_CONFIG_BYTES);
  const generationConfig = names.has('generation_config.json')
    ? await readJsonObject(join(folder, 'generation_config.json'), MAX_CONFIG_BYTES)
    : undefined;
  return { folder, names, configFile, config, generationConfig };
}

/** For a message, when a folder has nothing else to read: a GGUF file is a model by itself. */
export function ggufHint(names: ReadonlySet<string>): string {
  const [file] = [...names].filter((name) => name.endsWith('.gguf')).sort();
  return file === undefined ? '' : `; it has ${quote(file)}: name that file instead of the folder`;
}

async function list(folder: string): Promise<string[]> {
  try {
    return await readdir(folder);
  } catch (cause) {
    const code = errorCode(cause);
    const problem =
      { ENOENT: 'there is no such folder', ENOTDIR: 'is a file, a model folder or a .gguf file is expected' }[code] ??
      `cannot be listed (${code})`;
    throw new UsageError(`${folder}: ${problem}`, { folder }, { cause });
  }
}
