/**
 * Llama 1 to 3, and the many models with its architecture.
 * Source: `LlamaConfig` and `LlamaForCausalLM` of transformers; Touvron et al. 2023, arXiv:2302.13971 and arXiv:2307.09288.
 */
import { readConfig } from './config.ts';
import { type DecoderDefaults, equalLayers, readActivation, readSharedShape } from './decoder-config.ts';
import { decoder, type DecoderShape } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily, Storage } from './model.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 32000,
  hidden_size: 4096,
  intermediate_size: 11008,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  max_position_embeddings: 2048,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
  bos_token_id: 1,
  eos_token_id: 2,
};

export const llama: ModelFamily = (config, file, storage) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'llama', DEFAULTS);
  const bias = reader.flag('attention_bias', false);
  return decoder({
    ...shape,
    activation: readActivation(reader, 'hidden_act', 'silu'),
    ...llamaRows(storage),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    biases: { qkv: bias, output: bias, mlp: reader.flag('mlp_bias', false) },
    layers: equalLayers(shape.layerCount, readRope(reader, { ...shape, theta: 10000 })),
  });
};

/** GGUF files have the rows of q and k of this kind so that neighbours rotate together. */
export function llamaRows(storage: Storage | undefined): Pick<DecoderShape, 'ropeStyle' | 'gguf'> {
  const stored = storage === 'gguf';
  return { ropeStyle: stored ? 'interleaved' : 'half', gguf: { architecture: 'llama', interleave: !stored } };
}

/** The architecture `llama` is also that of Mistral and Mixtral. */
export const llamaFromGguf: GgufTranslation = (gguf) => {
  const experts = gguf.optionalNumber('expert_count') ?? 0;
  const window = gguf.optionalNumber('attention.sliding_window') ?? 0;
  const shared = decoderConfig(gguf, experts > 0 ? 'mixtral' : window > 0 ? 'mistral' : 'llama');
  return {
    ...shared,
    mlp_bias: gguf.has('blk.0.ffn_up.bias'),
    sliding_window: window > 0 ? window : null,
    ...(experts > 0 && { num_local_experts: experts, num_experts_per_tok: gguf.number('expert_used_count') }),
  };
};
