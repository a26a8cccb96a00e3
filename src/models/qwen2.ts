/**
 * Qwen 2 and 2.5: Llama with biases on queries, keys and values; the last layers may have a sliding window.
 * Source: `Qwen2Config` and `Qwen2ForCausalLM` of transformers; Yang et al. 2024, arXiv:2407.10671.
 */
import { type ConfigReader, LIMITS, readConfig } from './config.ts';
import { type DecoderDefaults, readActivation, readSharedShape, readSlidingLayers, readWindow } from './decoder-config.ts';
import { decoder, type DecoderLayer } from './decoder.ts';
import { decoderConfig, type GgufTranslation } from './gguf-config.ts';
import type { ModelFamily } from './model.ts';
import { readRope, type Rope } from './rope.ts';

const DEFAULTS: DecoderDefaults = {
  vocab_size: 151936,
  hidden_size: 4096,
  intermediate_size: 22016,
  num_hidden_layers: 32,
  num_attention_heads: 32,
  num_key_value_heads: 32,
  max_position_embeddings: 32768,
  rms_norm_eps: 1e-6,
  tie_word_embeddings: false,
};

export const qwen2: ModelFamily = (config, file) => {
  const reader = readConfig(config, file);
  const shape = readSharedShape(reader, 'qwen2', DEFAULTS);
  return decoder({
    ...shape,
    gguf: { architecture: 'qwen2' },
    activation: readActivation(reader, 'hidden_act', 'silu'),
    attentionScale: 1 / Math.sqrt(shape.headDim),
    biases: { qkv: true },
    layers: readQwenLayers(reader, shape.layerCount, readRope(reader, { ...shape, theta: 10000 })),
  });
};

/** `sliding_window` counts only with `use_sliding_window`, and from `max_window_layers` on. */
export function readQwenLayers(reader: ConfigReader, count: number, rope: Rope): DecoderLayer[] {
  const window = reader.flag('use_sliding_window', false) ? readWindow(reader, 4096) : undefined;
  if (window === undefined) return Array.from({ length: count }, () => ({ rope }));
  const first = reader.count('max_window_layers', { min: 0, max: LIMITS.layers, fallback: 28 });
  return readSlidingLayers(reader, count, (layer) => layer >= first).map((slides) => (slides ? { rope, window } : { rope }));
}

export const qwen2FromGguf: GgufTranslation = (gguf) => decoderConfig(gguf, 'qwen2');
