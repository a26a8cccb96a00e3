import { FormatError } from '../util/errors.ts';
import { gemma } from './gemma.ts';
import { gemma2 } from './gemma2.ts';
import { gemma3, gemma3WithImages } from './gemma3.ts';
import { llama } from './llama.ts';
import { mistral } from './mistral.ts';
import { mixtral } from './mixtral.ts';
import type { Model, ModelFamily } from './model.ts';
import { opt } from './opt.ts';
import { phi3 } from './phi3.ts';
import { qwen2Moe } from './qwen2-moe.ts';
import { qwen2 } from './qwen2.ts';
import { qwen3Moe } from './qwen3-moe.ts';
import { qwen3 } from './qwen3.ts';

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

/**
 * Makes the model that a parsed `config.json` describes.
 * @throws {FormatError} for an unknown `model_type`, listing what is known, or a value that the family does not take
 */
export function buildModel(config: unknown, file: string): Model {
  if (typeof config !== 'object' || config === null || Array.isArray(config)) throw new FormatError(file, 'is not a JSON object');
  const { model_type: type } = config as Readonly<Record<string, unknown>>;
  if (typeof type !== 'string' || !Object.hasOwn(FAMILIES, type)) {
    const known = Object.keys(FAMILIES).join(', ');
    const got = type === undefined ? 'nothing' : JSON.stringify(type).slice(0, 80);
    throw new FormatError(file, `"model_type": one of ${known} expected, got ${got}`, { key: 'model_type', expected: known, got });
  }
  return FAMILIES[type]!(config as Readonly<Record<string, unknown>>, file);
}
