/**
 * Phi-3 and Phi-4: Llama with fused projections; some rotate only a part of each head.
 * Source: `Phi3Config` and `Phi3ForCausalLM` of transformers; Abdin et al. 2024, arXiv:2404.14219.
 */
import { readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape, readWindow } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 32064,
  hidden_size: 3072,
  intermediate_size: 8192,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 4096,
  rms_norm_eps: 1e-5,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 32000,
};

export const phi3: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'phi3', DEFAULTS);
  return decoder({
    ...shape,
    gguf: { architecture: 'phi3' },
    activation: readActivation(reader, 'hidden_act', 'silu'),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    fused: true,
    layers: equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 10000 }), readWindow(reader, undefined)),
  });
};

export const phi3FromGguf: GgufTranslation = (gguf) => {
  const window = gguf.optionalNumber('attention.sliding_window') ?? 0;
  return { ...decoderConfig(gguf, 'phi3'), sliding_window: window > 0 ? window : null };
};
