import { FormatError } from '../util/errors.ts';
import { gemma, gemmaFromGguf } from './gemma.ts';
import { gemma2, gemma2FromGguf } from './gemma2.ts';
import { gemma3, gemma3FromGguf, gemma3WithImages } from './gemma3.ts';
import { llama, llamaFromGguf } from './llama.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import { type GgufFacts, GgufKeys, type GgufTranslation } from './gguf-config.ts';
import type { Model, ModelFamily, Storage } from './model.ts';
import { opt } from './opt.ts';
import { phi3, phi3FromGguf } from './phi3.ts';
import { qwen2Moe, qwen2MoeFromGguf } from './qwen2-moe.ts';
import { qwen2, qwen2FromGguf } from './qwen2.ts';
import { qwen3Moe, qwen3MoeFromGguf } from './qwen3-moe.ts';
import { qwen3, qwen3FromGguf } from './qwen3.ts';

/** By `model_type` of the configuration. A new architecture is one file and one line here. */
const FAMILIES: Readonly<Record<string, ModelFamily>> = {
  opt,
  llama,
  mistral,
  mixtral,
  qwen2,
  qwen2_moe: qwen2Moe,
  qwen3,
  qwen3_moe: qwen3Moe,
  gemma,
  gemma2,
  gemma3_text: gemma3,
  gemma3: gemma3WithImages,
  phi3,
};

/** By `general.architecture` of GGUF files. */
const TRANSLATIONS: Readonly<Record<string, GgufTranslation>> = {
  llama: llamaFromGguf,
  qwen2: qwen2FromGguf,
  qwen2moe: qwen2MoeFromGguf,
  qwen3: qwen3FromGguf,
  qwen3moe: qwen3MoeFromGguf,
  gemma: gemmaFromGguf,
  gemma2: gemma2FromGguf,
  gemma3: gemma3FromGguf,
  phi3: phi3FromGguf,
};

/** A file that was made from a Hugging Face folder may carry the folder's `config.json`, which says more than the keys of GGUF can. */
export const CONFIG_KEY = 'config.huggingface.json';

/**
 * Makes the model that the metadata of a GGUF file describes.
 * @throws {FormatError} for an unknown architecture, listing what is known, or a value that the family does not take
 */
export function buildGgufModel(facts: GgufFacts): Model {
  const config = facts.metadata.get(CONFIG_KEY);
  if (config !== undefined) return buildModel(parseConfig(config, facts.file), facts.file, 'gguf');
  const architecture = facts.metadata.get('general.architecture');
  if (typeof architecture !== 'string' || !Object.hasOwn(TRANSLATIONS, architecture)) {
    const known = Object.keys(TRANSLATIONS).join(', ');
    const got = typeof architecture === 'string' ? JSON.stringify(architecture).slice(0, 80) : 'nothing';
    throw new FormatError(facts.file, `"general.architecture": one of ${known} expected, got ${got}`, { expected: known, got });
  }
  return buildModel(TRANSLATIONS[architecture]!(new GgufKeys(architecture, facts)), facts.file, 'gguf');
}

/**
 * Makes the model that a parsed `config.json` describes.
 * @throws {FormatError} for an unknown `model_type`, listing what is known, or a value that the family does not take
 */
export function buildModel(config: unknown, file: string, storage: Storage = 'huggingface'): Model {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new FormatError(file, 'is not a JSON object');
  const { model_type: type } = config as Readonly<Record<string, unknown>>;
  if (typeof type !== 'string' || !Object.hasOwn(FAMILIES, type)) {
    const known = Object.keys(FAMILIES).join(', ');
    const got = type === undefined ? 'nothing' : JSON.stringify(type).slice(0, 80);
    throw new FormatError(file, `"model_type": one of ${known} expected, got ${got}`, { key: 'model_type', expected: known, got });
  }
  return FAMILIES[type]!(config as Readonly<Record<string, unknown>>, file, storage);
}

function parseConfig(text: unknown, file: string): unknown {
  try {
    return JSON.parse(String(text));
  } catch (cause) {
    throw new FormatError(file, `"${CONFIG_KEY}" is not JSON: ${(cause as Error).message}`, { key: CONFIG_KEY }, { cause });
  }
}
