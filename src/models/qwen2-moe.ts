/**
 * Qwen 1.5 and 2 with a mixture of experts, one of which all tokens share.
 * Source: `Qwen2MoeConfig` and `Qwen2MoeForCausalLM` of transformers; Yang et al. 2024, arXiv:2407.10671.
 */
import { type ConfigReader, LIMITS, readConfig } from './config.ts';
import { type DecoderDefaults, readActivation, readSharedShape } from './decoder-config.ts';
import { decoder, type DecoderLayer } from './decoder.ts';
import { type Config, decoderConfig, type GgufKeys, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { MOE_SOURCES, type MoeShape } from './moe.ts';
import { readQwenLayers } from './qwen2.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 151936,
  hidden_size: 2048,
  intermediate_size: 5632,
  num_hidden_layers: 24,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  max_position_embeddings: 32768,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const qwen2Moe: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'qwen2_moe', DEFAULTS);
  const sharedInner = reader.count('shared_expert_intermediate_size', { max: LIMITS.feedForwardSize, fallback: 5632 });
  const moe = { ...readQwenExperts(reader, { inner: 1408, experts: 60, used: 4 }), sharedInner };
  return decoder({
    ...shape,
    gguf: { architecture: 'qwen2moe' },
    activation: readActivation(reader, 'hidden_act', 'silu'),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    biases: { qkv: reader.flag('qkv_bias', true) },
    layers: withExperts(reader, readQwenLayers(reader, shape.layerCount, readRope(reader, { ...shape, theta: 10000 })), moe),
  });
};

export function readQwenExperts(reader: ConfigReader, defaults: { inner: number; experts: number; used: number }): MoeShape {
  const most = { max: LIMITS.experts, fallback: defaults.experts };
  // Newer files name the number as Mixtral does.
  const experts = reader.count('num_experts', { ...most, fallback: reader.count('num_local_experts', most) });
  return {
    experts,
    used: reader.count('num_experts_per_tok', { max: experts, fallback: defaults.used }),
    inner: reader.count('moe_intermediate_size', { max: LIMITS.feedForwardSize, fallback: defaults.inner }),
    normalise: reader.flag('norm_topk_prob', false),
    sources: MOE_SOURCES,
  };
}

/** Every `decoder_sparse_step`th layer has experts, unless `mlp_only_layers` lists it. */
export function withExperts(reader: ConfigReader, layers: readonly DecoderLayer[], moe: MoeShape): DecoderLayer[] {
  const step = reader.count('decoder_sparse_step', { max: LIMITS.layers, fallback: 1 });
  const dense = new Set(reader.layerIndices('mlp_only_layers'));
  return layers.map((layer, index) => (!dense.has(index) && (index + 1) % step === 0 ? { ...layer, moe } : layer));
}

export const qwen2MoeFromGguf: GgufTranslation = (gguf) => ({
  ...decoderConfig(gguf, 'qwen2_moe'),
  ...qwenExpertsFromGguf(gguf),
  qkv_bias: gguf.has('blk.0.attn_q.bias'),
  shared_expert_intermediate_size: gguf.number('expert_shared_feed_forward_length'),
  norm_topk_prob: false,
});

export function qwenExpertsFromGguf(gguf: GgufKeys): Config {
  return {
    num_experts: gguf.number('expert_count'),
    num_experts_per_tok: gguf.number('expert_used_count'),
    moe_intermediate_size: gguf.number('expert_feed_forward_length'),
  };
}
