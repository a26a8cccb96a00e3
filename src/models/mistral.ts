/**
 * Mistral: Llama with a sliding window in every layer, or none.
 * Source: `MistralConfig` and `MistralForCausalLM` of transformers; Jiang et al. 2023, arXiv:2310.06825.
 */
import { readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape, readWindow } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { llamaRows } from './llama.ts';
import type { ModelFamily } from './model.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 14336,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 8,
  max_position_embeddings: 4096 * 32,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};

export const mistral: ModelFamily = (config, file, storage) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'mistral', DEFAULTS);
  return decoder({
    ...shape,
    activation: readActivation(reader, 'hidden_act', 'silu'),
    ...llamaRows(storage),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    layers: equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 10000 }), readWindow(reader, 4096)),
  });
};
