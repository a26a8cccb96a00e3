/**
 * Qwen 3 with a mixture of experts.
 * Source: `Qwen3MoeConfig` and `Qwen3MoeForCausalLM` of transformers; Yang et al. 2025, arXiv:2505.09388.
 */
import { readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape, readWindow } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { qwenExpertsFromGguf, readQwenExperts, withExperts } from './qwen2-moe.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 151936,
  hidden_size: 2048,
  intermediate_size: 6144,
  num_hidden_layers: 24,
  num_attention_heads: 32,
  num_key_value_heads: 4,
  max_position_embeddings: 32768,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const qwen3Moe: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'qwen3_moe', DEFAULTS);
  const bias = reader.flag('attention_bias', false);
  const window = reader.flag('use_sliding_window', false) ? readWindow(reader, 4096) : undefined;
  const layers = equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 10000 }), window);
  return decoder({
    ...shape,
    gguf: { architecture: 'qwen3moe' },
    activation: readActivation(reader, 'hidden_act', 'silu'),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    biases: { qkv: bias, output: bias },
    headNorms: true,
    layers: withExperts(reader, layers, readQwenExperts(reader, { inner: 768, experts: 128, used: 8 })),
  });
};

export const qwen3MoeFromGguf: GgufTranslation = (gguf) => ({
  ...decoderConfig(gguf, 'qwen3_moe'),
  ...qwenExpertsFromGguf(gguf),
  norm_topk_prob: true,
});
