/**
 * What a GGUF file says of its model, as the configuration that Hugging Face would have for it, so that every family has one reader.
 * Source: the GGUF specification and the key names of llama.cpp.
 */
import { FormatError } from '../util/errors.ts';

export type Config = Readonly<Record<string, unknown>>;

/** Facts of a file that decide its configuration. */
export interface GgufFacts {
  /** For messages. */
  readonly file: string;
  readonly metadata: ReadonlyMap<string, unknown>;
  /** Of a tensor, outermost dimension first; undefined if there is none of this name. */
  readonly shapeOf: (tensor: string) => readonly number[] | undefined;
  /** Elements of the vectors that scale rotary positions, by tensor name. */
  readonly ropeFactors: ReadonlyMap<string, readonly number[]>;
}

/** Vectors of a file that belong to the configuration. */
export const ROPE_FACTOR_TENSORS = ['rope_freqs.weight', 'rope_factors_short.weight', 'rope_factors_long.weight'] as const;

/** Makes the configuration of one family. */
export type GgufTranslation = (gguf: GgufKeys) => Config;

/** Ids that end a completion, beside the end of the sequence: of a turn, of a message. */
const END_KEYS = ['eos_token_id', 'eot_token_id', 'eom_token_id'] as const;

/** Checked access to the keys of one architecture, such as `llama.context_length`. */
export class GgufKeys {
  readonly architecture: string;
  readonly #facts: GgufFacts;

  constructor(architecture: string, facts: GgufFacts) {
    this.architecture = architecture;
    this.#facts = facts;
  }

  /** @throws {FormatError} when it is missing or no number */
  number(key: string): number {
    return this.optionalNumber(key) ?? this.#fail(key, 'a number', undefined);
  }

  /** A list counts as its value where all layers have the same. */
  optionalNumber(key: string): number | undefined {
    const value = this.#facts.metadata.get(`${this.architecture}.${key}`);
    if (value === undefined || typeof value === 'number') return value;
    if (!Array.isArray(value)) return this.#fail(key, 'a number', value);
    const [first, ...others] = value as unknown[];
    if (typeof first !== 'number' || others.some((other) => other !== first))
      return this.#fail(key, 'one number for all layers', value.slice(0, 8));
    return first;
  }

  oneOf<const T extends string>(key: string, known: readonly T[]): T | undefined {
    const value = this.#facts.metadata.get(`${this.architecture}.${key}`);
    if (value === undefined) return undefined;
    return known.find((name) => name === value) ?? this.#fail(key, `one of ${known.join(', ')}`, value);
  }

  has(tensor: string): boolean {
    return this.#facts.shapeOf(tensor) !== undefined;
  }

  ropeFactors(tensor: (typeof ROPE_FACTOR_TENSORS)[number]): readonly number[] | undefined {
    return this.#facts.ropeFactors.get(tensor);
  }

  /** Rows of the token table, which is what the ids are looked up in. */
  vocabularySize(): number {
    const [rows] = this.#facts.shapeOf('token_embd.weight') ?? [];
    if (rows === undefined) throw new FormatError(this.#facts.file, 'has no tensor token_embd.weight');
    return rows;
  }

  endIds(): number[] {
    const ids = END_KEYS.map((key) => this.#facts.metadata.get(`tokenizer.ggml.${key}`));
    return [...new Set(ids.filter((id): id is number => typeof id === 'number'))];
  }

  #fail(key: string, expected: string, got: unknown): never {
    const found =
      got === undefined ? 'nothing' : JSON.stringify(got, (_, part: unknown) => (typeof part === 'bigint' ? String(part) : part));
    throw new FormatError(this.#facts.file, `"${this.architecture}.${key}": ${expected} expected, got ${found.slice(0, 80)}`);
  }
}

/** Keys that all decoders of the Llama kind have. */
export function decoderConfig(gguf: GgufKeys, modelType: string): Config {
  const heads = gguf.number('attention.head_count');
  const hiddenSize = gguf.number('embedding_length');
  const headDim = gguf.optionalNumber('attention.key_length') ?? hiddenSize / heads;
  const rotaryDims = gguf.optionalNumber('rope.dimension_count') ?? headDim;
  const bias = gguf.has('blk.0.attn_q.bias');
  return {
    model_type: modelType,
    vocab_size: gguf.vocabularySize(),
    hidden_size: hiddenSize,
    intermediate_size: gguf.optionalNumber('feed_forward_length') ?? gguf.number('expert_feed_forward_length'),
    num_hidden_layers: gguf.number('block_count'),
    num_attention_heads: heads,
    num_key_value_heads: gguf.optionalNumber('attention.head_count_kv') ?? heads,
    head_dim: headDim,
    max_position_embeddings: gguf.number('context_length'),
    rms_norm_eps: gguf.number('attention.layer_norm_rms_epsilon'),
    tie_word_embeddings: !gguf.has('output.weight'),
    attention_bias: bias,
    bos_token_id: null,
    eos_token_id: gguf.endIds(),
    rope_theta: gguf.optionalNumber('rope.freq_base') ?? 10_000,
    partial_rotary_factor: rotaryDims / headDim,
    rope_scaling: ropeScaling(gguf),
  };
}

const SCALING_TYPES = ['none', 'linear', 'yarn', 'longrope'] as const;

/** In the words of `rope_scaling`. */
function ropeScaling(gguf: GgufKeys): Config | null {
  const factors = gguf.ropeFactors('rope_freqs.weight');
  if (factors) return { rope_type: 'factors', factors };
  const shortFactors = gguf.ropeFactors('rope_factors_short.weight');
  const original = gguf.optionalNumber('rope.scaling.original_context_length');
  const common = original === undefined ? {} : { original_max_position_embeddings: original };
  if (shortFactors) {
    const attention = gguf.optionalNumber('rope.scaling.attn_factor');
    return {
      rope_type: 'longrope',
      short_factor: shortFactors,
      long_factor: gguf.ropeFactors('rope_factors_long.weight') ?? shortFactors,
      ...common,
      ...(attention !== undefined && attention > 0 && { attention_factor: attention }),
    };
  }
  const type =
    gguf.oneOf('rope.scaling.type', SCALING_TYPES) ?? (gguf.optionalNumber('rope.scale_linear') === undefined ? 'none' : 'linear');
  if (type === 'none' || type === 'longrope') return null;
  const factor = gguf.optionalNumber('rope.scaling.factor') ?? gguf.number('rope.scale_linear');
  if (type === 'linear') return { rope_type: 'linear', factor };
  return { rope_type: 'yarn', factor, ...common, ...yarnBounds(gguf) };
}

function yarnBounds(gguf: GgufKeys): Config {
  const [fast, slow] = [gguf.optionalNumber('rope.scaling.yarn_beta_fast'), gguf.optionalNumber('rope.scaling.yarn_beta_slow')];
  return { ...(fast !== undefined && { beta_fast: fast }), ...(slow !== undefined && { beta_slow: slow }) };
}
