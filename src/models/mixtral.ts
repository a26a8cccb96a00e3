/**
 * Mixtral: Mistral with a mixture of experts in every layer.
 * Source: `MixtralConfig` and `MixtralForCausalLM` of transformers; Jiang et al. 2024, arXiv:2401.04088.
 */
import { LIMITS, readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape, readWindow } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { llamaRows } from './llama.ts';
import type { ModelFamily } from './model.ts';
import type { MoeShape, MoeSources } from './moe.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  max_position_embeddings: 4096 * 32,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};

const PARTS = { gate: 'w1', up: 'w3', down: 'w2' } as const;
const SOURCES: MoeSources = {
  router: 'block_sparse_moe.gate',
  expert: (index, part) => `block_sparse_moe.experts.${index}.${PARTS[part]}`,
};

export const mixtral: ModelFamily = (config, file, storage) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'mixtral', DEFAULTS);
  const experts = reader.count('num_local_experts', { max: LIMITS.experts, fallback: 8 });
  const used = reader.count('num_experts_per_tok', { max: experts, fallback: 2 });
  const moe: MoeShape = { experts, used, inner: shape.feedForwardSize, normalise: true, sources: SOURCES };
  const layers = equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 1_000_000 }), readWindow(reader, undefined));
  return decoder({
    ...shape,
    activation: readActivation(reader, 'hidden_act', 'silu'),
    ...llamaRows(storage),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    layers: layers.map((layer) => ({ ...layer, moe })),
  });
};
