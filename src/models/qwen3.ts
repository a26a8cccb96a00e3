/**
 * Qwen 3: Qwen 2 with norms on the heads of queries and keys, and biases only if the configuration says so.
 * Source: `Qwen3Config` and `Qwen3ForCausalLM` of transformers; Yang et al. 2025, arXiv:2505.09388.
 */
import { readConfig } from './config.ts';
import { type DecoderDefaults, readActivation, readSharedShape } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { readQwenLayers } from './qwen2.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 151936,
  hidden_size: 4096,
  intermediate_size: 22016,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  head_dim: 128,
  max_position_embeddings: 32768,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const qwen3: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'qwen3', DEFAULTS);
  const bias = reader.flag('attention_bias', false);
  return decoder({
    ...shape,
    gguf: { architecture: 'qwen3' },
    activation: readActivation(reader, 'hidden_act', 'silu'),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    biases: { qkv: bias, output: bias },
    headNorms: true,
    layers: readQwenLayers(reader, shape.layerCount, readRope(reader, { ...shape, theta: 10000 })),
  });
};

export const qwen3FromGguf: GgufTranslation = (gguf) => decoderConfig(gguf, 'qwen3');
