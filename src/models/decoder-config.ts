/** Keys that the configurations of all decoders of the Llama kind share. */
import type { Activation } from '../tensor/op-graph.ts';
import { type ConfigReader, LIMITS } from './config.ts';
import type { DecoderLayer, DecoderShape } from './decoder.ts';
import type { Rope } from './rope.ts';

/** What the transformers class has for keys that a configuration lacks, under the names of the configuration. */
export interface DecoderDefaults {
  readonly vocab_size: number;
  readonly hidden_size: number;
  readonly intermediate_size: number;
  readonly num_hidden_layers: number;
  readonly num_attention_heads: number;
  /** Undefined: as many as heads. */
  readonly num_key_value_heads?: number;
  /** Undefined: hidden size / heads. */
  readonly head_dim?: number;
  readonly max_position_embeddings: number;
  readonly rms_norm_eps: number;
  readonly tie_word_embeddings: boolean;
  readonly bos_token_id?: number;
  readonly eos_token_id?: number;
}

const ACTIVATIONS = {
  silu: 'silu',
  swish: 'silu',
  gelu: 'gelu',
  gelu_new: 'gelu_tanh',
  gelu_pytorch_tanh: 'gelu_tanh',
  relu: 'relu',
} as const satisfies Readonly<Record<string, Activation>>;
export type ActivationName = keyof typeof ACTIVATIONS;
const ACTIVATION_NAMES = Object.keys(ACTIVATIONS) as ActivationName[];

type CountKey =
  | 'vocab_size'
  | 'hidden_size'
  | 'intermediate_size'
  | 'num_hidden_layers'
  | 'num_attention_heads'
  | 'max_position_embeddings';
type SharedShape = Omit<DecoderShape, 'activation' | 'layers' | 'attentionScale' | 'gguf'>;

/** @throws {FormatError} naming the key, what was expected and what was found */
export function readSharedShape(reader: ConfigReader, family: string, defaults: DecoderDefaults): SharedShape {
  const count = (key: CountKey, max: number): number => reader.count(key, { max, fallback: defaults[key] });
  const hiddenSize = count('hidden_size', LIMITS.hiddenSize);
  const heads = count('num_attention_heads', LIMITS.heads);
  const kvHeads = reader.optionalCount('num_key_value_heads', { max: LIMITS.heads, fallback: defaults.num_key_value_heads }) ?? heads;
  if (heads % kvHeads !== 0) reader.fail('num_key_value_heads', `a divisor of num_attention_heads ${heads}`);
  const headDim = reader.optionalCount('head_dim', { max: LIMITS.headDim, fallback: defaults.head_dim }) ?? hiddenSize / heads;
  if (!Number.isInteger(headDim)) reader.fail('num_attention_heads', `a divisor of hidden_size ${hiddenSize}`);
  reader.tokenId('bos_token_id', defaults.bos_token_id); // only checked
  return {
    family,
    vocabularySize: count('vocab_size', LIMITS.vocabularySize),
    contextLength: count('max_position_embeddings', LIMITS.contextLength),
    hiddenSize,
    feedForwardSize: count('intermediate_size', LIMITS.feedForwardSize),
    layerCount: count('num_hidden_layers', LIMITS.layers),
    heads,
    kvHeads,
    headDim,
    normEpsilon: reader.positive('rms_norm_eps', defaults.rms_norm_eps),
    tiedHead: reader.flag('tie_word_embeddings', defaults.tie_word_embeddings),
    eosTokenIds: reader.tokenIds('eos_token_id', defaults.eos_token_id === undefined ? [] : [defaults.eos_token_id]),
  };
}

export function readActivation(reader: ConfigReader, key: string, fallback: ActivationName): Activation {
  return ACTIVATIONS[reader.oneOf(key, ACTIVATION_NAMES, fallback)];
}

/** Layers of one rope, all with the same window or none. */
export function equalLayers(count: number, rope: Rope, window?: number): DecoderLayer[] {
  return Array.from({ length: count }, () => ({ rope, ...(window !== undefined && { window }) }));
}

/** For each layer, whether its attention has a window: as `layer_types` says, else as `slides` does. */
export function readSlidingLayers(reader: ConfigReader, count: number, slides: (layer: number) => boolean): boolean[] {
  const types = reader.names('layer_types', ['full_attention', 'sliding_attention'], count);
  return Array.from({ length: count }, (_, layer) => (types ? types[layer] === 'sliding_attention' : slides(layer)));
}

/** Positions that a layer with a window sees; undefined where the configuration says that there is none. */
export function readWindow(reader: ConfigReader, fallback: number | undefined): number | undefined {
  return reader.optionalCount('sliding_window', { max: LIMITS.contextLength, fallback });
}
