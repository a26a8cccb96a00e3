/**
 * Shapes of the published models of the OPT family, so that they can be planned for, and run with random weights, without their files.
 * Sources: Zhang et al. 2022 (arXiv:2205.01068), table 1, and the published configurations; Taylor et al. 2022 (arXiv:2211.09085), table 5.
 */

/** [layers, hidden size, heads]; the inner size is 4 times the hidden size throughout. */
type Size = readonly [layers: number, hiddenSize: number, heads: number];

const OPT_SIZES: Readonly<Record<string, Size>> = {
  '125m': [12, 768, 12],
  '350m': [24, 1024, 16],
  '1.3b': [24, 2048, 32],
  '2.7b': [32, 2560, 32],
  '6.7b': [32, 4096, 32],
  '13b': [40, 5120, 40],
  '30b': [48, 7168, 56],
  '66b': [64, 9216, 72],
  '175b': [96, 12288, 96],
  /** A quarter of 175b, which FlexGen's pipeline benchmarks use. */
  '175b-stage': [24, 12288, 96],
};

const GALACTICA_SIZES: Readonly<Record<string, Size>> = {
  '125m': [12, 768, 12],
  '1.3b': [24, 2048, 32],
  '6.7b': [32, 4096, 32],
  '30b': [48, 7168, 56],
  '120b': [96, 10240, 80],
};

/** Every name that `publishedConfig` knows, without those of instruction-tuned variants. */
export const PUBLISHED_OPT_NAMES: readonly string[] = [
  ...Object.keys(OPT_SIZES).map((size) => `opt-${size}`),
  ...Object.keys(GALACTICA_SIZES).map((size) => `galactica-${size}`),
];

/**
 * The configuration of `opt-125m`, `facebook/opt-iml-max-30b`, `galactica-6.7b`, ..., in the form of a `config.json`. Case does not
 * matter. Undefined for a name that was never published.
 */
export function publishedConfig(name: string): Readonly<Record<string, unknown>> | undefined {
  const match = /^(?:facebook\/)?(opt|galactica)(-iml(?:-max)?)?-([a-z0-9.-]+)$/.exec(name.toLowerCase());
  if (!match) return undefined;
  const [, kind, tuned, label] = match;
  if (kind === 'galactica' && tuned) return undefined;
  const sizes = kind === 'opt' ? OPT_SIZES : GALACTICA_SIZES;
  if (!Object.hasOwn(sizes, label!)) return undefined;
  const config = baseConfig(sizes[label!]!);
  if (kind === 'galactica') return { ...config, ...GALACTICA };
  return label === '350m' ? { ...config, ...OPT_350M } : config;
}

const OPT_350M = { do_layer_norm_before: false, word_embed_proj_dim: 512 } as const;

/** The paper's architecture: no biases, no norm parameters. */
const GALACTICA = {
  vocab_size: 50000,
  activation_function: 'gelu',
  enable_bias: false,
  layer_norm_elementwise_affine: false,
  bos_token_id: 0,
} as const;

function baseConfig([layers, hiddenSize, heads]: Size): Record<string, unknown> {
  return {
    architectures: ['OPTForCausalLM'],
    model_type: 'opt',
    activation_function: 'relu',
    do_layer_norm_before: true,
    vocab_size: 50272,
    hidden_size: hiddenSize,
    word_embed_proj_dim: hiddenSize,
    ffn_dim: 4 * hiddenSize,
    num_hidden_layers: layers,
    num_attention_heads: heads,
    max_position_embeddings: 2048,
    pad_token_id: 1,
    bos_token_id: 2,
    eos_token_id: 2,
  };
}
