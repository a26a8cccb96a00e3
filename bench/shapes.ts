/**
 * Configurations of published models, in the form of their `config.json`, so that files of their size can be made up.
 * Sources: the published configurations of Llama 2 7B, Llama 3 8B and Qwen 3 4B. The tiny ones are for tests.
 */
import { PUBLISHED_OPT_NAMES, publishedConfig } from '../src/models/opt-sizes.ts';
import { UsageError } from '../src/util/errors.ts';

export type ShapeConfig = Readonly<Record<string, unknown>>;

const LLAMA_7B = {
  architectures: ['LlamaForCausalLM'],
  model_type: 'llama',
  vocab_size: 32_000,
  hidden_size: 4096,
  intermediate_size: 11_008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  rope_theta: 10_000,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
} as const;

const QWEN3_4B = {
  architectures: ['Qwen3ForCausalLM'],
  model_type: 'qwen3',
  vocab_size: 151_936,
  hidden_size: 2560,
  intermediate_size: 9728,
  num_hidden_layers: 36,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  head_dim: 128,
  max_position_embeddings: 40_960,
  rms_norm_eps: 1e-6,
  rope_theta: 1_000_000,
  tie_word_embeddings: true,
  bos_token_id: 151_643,
  eos_token_id: 151_645,
} as const;

/** Rows of a whole block of every type. */
const TINY = {
  vocab_size: 2048,
  hidden_size: 256,
  intermediate_size: 512,
  num_hidden_layers: 2,
  num_attention_heads: 4,
  num_key_value_heads: 2,
  bos_token_id: 1,
  eos_token_id: 2,
} as const;

const SHAPES: Readonly<Record<string, ShapeConfig>> = {
  'llama-7b': LLAMA_7B,
  'llama-3-8b': {
    ...LLAMA_7B,
    vocab_size: 128_256,
    intermediate_size: 14_336,
    num_key_value_heads: 8,
    max_position_embeddings: 8192,
    rope_theta: 500_000,
    bos_token_id: 128_000,
    eos_token_id: 128_001,
  },
  'qwen3-4b': QWEN3_4B,
  'llama-tiny': { ...LLAMA_7B, ...TINY },
  'qwen3-tiny': { ...QWEN3_4B, ...TINY, head_dim: 64 },
};

/** llama.cpp runs them: OPT it does not know. */
export const PEER_SHAPE_NAMES: readonly string[] = Object.keys(SHAPES);

export const SHAPE_NAMES: readonly string[] = [...PEER_SHAPE_NAMES, ...PUBLISHED_OPT_NAMES];

export const isShape = (name: string): boolean => Object.hasOwn(SHAPES, name) || publishedConfig(name) !== undefined;

export const isPeerShape = (name: string): boolean => Object.hasOwn(SHAPES, name);

/** With other than the published number of layers, if `layers` says so. @throws {UsageError} listing the shapes */
export function shapeConfig(name: string, layers?: number): ShapeConfig {
  const config = Object.hasOwn(SHAPES, name) ? SHAPES[name]! : publishedConfig(name);
  if (!config) throw new UsageError(`${name}: no known shape; known are ${SHAPE_NAMES.join(', ')}`);
  return layers === undefined ? config : { ...config, num_hidden_layers: layers };
}
