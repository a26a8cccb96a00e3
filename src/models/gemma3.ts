/**
 * Gemma 3 (text): Gemma 2 with head norms instead of soft caps, and another rope in the layers that have a sliding window.
 * Source: `Gemma3TextConfig` and `Gemma3ForCausalLM` of transformers; Gemma Team 2025, arXiv:2503.19786.
 */
import { type ConfigReader, LIMITS, readConfig } from './config.ts';
import { type DecoderDefaults, readSharedShape, readSlidingLayers, readWindow } from './decoder-config.ts';
import { decoder } from './decoder.ts';
import { readGemmaTraits } from './gemma.ts';
import { laterKeysFromGguf, readLaterTraits } from './gemma2.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { makeRope, type Rope, type RopeDefaults } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 262208,
  hidden_size: 2304,
  intermediate_size: 9216,
  num_hidden_layers: 26,
  num_attention_heads: 8,
  num_key_value_heads: 4,
  head_dim: 256,
  max_position_embeddings: 131072,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: true,
  bos_token_id: 2,
  eos_token_id: 1,
};

export const gemma3: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'gemma3_text', DEFAULTS);
  const window = readWindow(reader, 4096);
  const { global, local } = readRopes(reader, shape);
  const pattern = reader.count('sliding_window_pattern', {
    max: LIMITS.layers,
    fallback: reader.count('_sliding_window_pattern', { max: LIMITS.layers, fallback: 6 }),
  });
  const sliding = readSlidingLayers(reader, shape.layerCount, (layer) => (layer + 1) % pattern !== 0);
  return decoder({
    ...shape,
    gguf: { architecture: 'gemma3' },
    ...readGemmaTraits(reader, shape.hiddenSize),
    ...readLaterTraits(reader, { attention: undefined, logits: undefined }),
    headNorms: true,
    layers: sliding.map((slides) => (slides ? { rope: local, ...(window !== undefined && { window }) } : { rope: global })),
  });
};

/** The text part of the models that also see images, which are not read. */
export const gemma3WithImages: ModelFamily = (config, file) => {
  const { text_config: text, bos_token_id: bos, eos_token_id: eos } = config;
  if (typeof text !== 'object' || text === null) return readConfig(config, file).fail('text_config', 'an object');
  return gemma3({ bos_token_id: bos, eos_token_id: eos, ...text }, file);
};

/** Newer files have parameters by layer type; in older ones, what scales the global rope leaves the local one alone. */
function readRopes(reader: ConfigReader, shape: Omit<RopeDefaults, 'theta'>): { global: Rope; local: Rope } {
  const byType = reader.object('rope_parameters');
  const scaling = byType ? byType.object('full_attention') : reader.object('rope_scaling');
  const global = { ...shape, theta: reader.positive('rope_theta', 1_000_000) };
  const local = { ...shape, theta: reader.positive('rope_local_base_freq', 10_000) };
  return {
    global: makeRope('rope', reader, scaling, global),
    local: makeRope('rope_local', reader, byType?.object('sliding_attention'), local),
  };
}

/** The one size whose scores are not scaled by the size of a head. */
const LAYERS_27B = 62;

export const gemma3FromGguf: GgufTranslation = (gguf) => ({
  ...decoderConfig(gguf, 'gemma3_text'),
  ...laterKeysFromGguf(gguf, LAYERS_27B),
  sliding_window_pattern: gguf.optionalNumber('attention.sliding_window_pattern') ?? 6,
  rope_local_base_freq: gguf.optionalNumber('rope.freq_base_swa') ?? 10_000,
});
