/**
 * Gemma 1: norms multiply by 1 + weight, embeddings are scaled, the MLP has tanh GELU.
 * Source: `GemmaConfig` and `GemmaForCausalLM` of transformers; Gemma Team 2024, arXiv:2403.08295.
 */
import { type ConfigReader, readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape } from './decoder-config.ts';
import { decoder, type DecoderShape } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 256000,
  hidden_size: 3072,
  intermediate_size: 24576,
  num_hidden_layers: 28,
  num_attention_heads: 16,
  num_key_value_heads: 16,
  head_dim: 256,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
  bos_token_id: 2,
  eos_token_id: 1,
};

export const gemma: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'gemma', DEFAULTS);
  // Early files say `gelu` under `hidden_act`, but were trained with the approximation.
  const stated = readActivation(reader, 'hidden_act', 'gelu_pytorch_tanh');
  const activation = stated === 'gelu' ? 'gelu_tanh' : stated;
  return decoder({
    ...shape,
    ...readGemmaTraits(reader, shape.hiddenSize),
    gguf: { architecture: 'gemma' },
    activation: config['hidden_activation'] ? readActivation(reader, 'hidden_activation', 'gelu_pytorch_tanh') : activation,
    attentionScale: 1 / Math.sqrt(shape.headDim),
    layers: equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 10000 })),
  });
};

/** What all generations share. */
export function readGemmaTraits(reader: ConfigReader, hiddenSize: number): Pick<DecoderShape, 'embeddingScale' | 'normOffset' | 'biases'> {
  if (reader.flag('use_bidirectional_attention', false)) reader.fail('use_bidirectional_attention', 'false or null');
  const bias = reader.flag('attention_bias', false);
  return { embeddingScale: Math.sqrt(hiddenSize), normOffset: 1, biases: { qkv: bias, output: bias } };
}

export const gemmaFromGguf: GgufTranslation = (gguf) => decoderConfig(gguf, 'gemma');
