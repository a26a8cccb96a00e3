/**
 * Gemma 2: Gemma with norms behind attention and MLP, soft caps, and a sliding window in every other layer.
 * Source: `Gemma2Config` and `Gemma2ForCausalLM` of transformers; Gemma Team 2024, arXiv:2408.00118.
 */
import { type ConfigReader, readConfig } from './config.ts';
import { type DecoderDefaults, readActivation, readSharedShape, readSlidingLayers, readWindow } from './decoder-config.ts';
import { decoder, type DecoderShape } from './decoder.ts';
import { readGemmaTraits } from './gemma.ts';
import { type Config, decoderConfig, type GgufKeys, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { readRope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 256000,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 8192,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
  bos_token_id: 2,
  eos_token_id: 1,
};

export const gemma2: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'gemma2', DEFAULTS);
  const rope = readRope(reader, { ...shape, theta: 10000 });
  const window = readWindow(reader, 4096);
  const sliding = readSlidingLayers(reader, shape.layerCount, (layer) => layer % 2 === 0);
  return decoder({
    ...shape,
    gguf: { architecture: 'gemma2' },
    ...readGemmaTraits(reader, shape.hiddenSize),
    ...readLaterTraits(reader, { attention: 50, logits: 30 }),
    layers: sliding.map((slides) => (slides && window !== undefined ? { rope, window } : { rope })),
  });
};

/** What came with the second generation. `caps` are the defaults; undefined means none. */
export function readLaterTraits(
  reader: ConfigReader,
  caps: { attention: number | undefined; logits: number | undefined },
): Pick<DecoderShape, 'activation' | 'attentionScale' | 'attentionSoftcap' | 'logitSoftcap' | 'normsBehind'> {
  const attentionSoftcap = reader.optionalPositive('attn_logit_softcapping', caps.attention);
  const logitSoftcap = reader.optionalPositive('final_logit_softcapping', caps.logits);
  return {
    activation: readActivation(reader, 'hidden_activation', 'gelu_pytorch_tanh'),
    attentionScale: 1 / Math.sqrt(reader.positive('query_pre_attn_scalar', 256)),
    normsBehind: true,
    ...(attentionSoftcap !== undefined && { attentionSoftcap }),
    ...(logitSoftcap !== undefined && { logitSoftcap }),
  };
}

/** The one size whose scores are not scaled by the size of a head. */
const LAYERS_27B = 46;

export const gemma2FromGguf: GgufTranslation = (gguf) => ({
  ...decoderConfig(gguf, 'gemma2'),
  ...laterKeysFromGguf(gguf, LAYERS_27B),
  attn_logit_softcapping: gguf.optionalNumber('attn_logit_softcapping') ?? null,
  final_logit_softcapping: gguf.optionalNumber('final_logit_softcapping') ?? null,
});

/** Files have no key for the scale of scores: llama.cpp knows it by the number of layers. */
export function laterKeysFromGguf(gguf: GgufKeys, largest: number): Config {
  const hiddenShare = gguf.number('embedding_length') / gguf.number('attention.head_count');
  const headDim = gguf.optionalNumber('attention.key_length') ?? hiddenShare;
  return {
    query_pre_attn_scalar: gguf.number('block_count') === largest ? hiddenShare : headDim,
    sliding_window: gguf.optionalNumber('attention.sliding_window') ?? null,
  };
}
