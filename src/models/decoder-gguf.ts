/**
 * How GGUF files describe decoders of the Llama kind, so that llama.cpp computes the same. The inverse of `gguf-config.ts`.
 * Source: the key names of llama.cpp and what its converter writes.
 */
import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import type { DecoderShape } from './decoder.ts';
import type { GgufForm } from './model.ts';
import type { RopeScaling } from './rope.ts';

export interface GgufTraits {
  /** llama.cpp's name of the architecture. */
  readonly architecture: string;
  /** Such files have the rows of q and k interleaved, and these weights have not. */
  readonly interleave?: boolean;
}

const u32 = (value: number): GgufEntry => ({ type: 'u32', value });
const f32 = (value: number): GgufEntry => ({ type: 'f32', value });

type Keys = Record<string, GgufEntry | undefined>;

export function decoderGguf(shape: DecoderShape): GgufForm {
  const { architecture } = shape.gguf;
  const { keys: ropeKeys, vectors } = describeRope(shape);
  const keys = { ...sizeKeys(shape), ...attentionKeys(shape), ...expertKeys(shape), ...ropeKeys };
  const known = Object.entries(keys).flatMap(([key, entry]): [string, GgufEntry][] => (entry ? [[`${architecture}.${key}`, entry]] : []));
  return { architecture, keys: new Map(known), vectors };
}

function sizeKeys(shape: DecoderShape): Keys {
  return {
    context_length: u32(shape.contextLength),
    embedding_length: u32(shape.hiddenSize),
    block_count: u32(shape.layerCount),
    feed_forward_length: u32(shape.feedForwardSize),
    vocab_size: u32(shape.vocabularySize),
  };
}

function attentionKeys({ heads, kvHeads, headDim, normEpsilon, layers, attentionSoftcap, logitSoftcap }: DecoderShape): Keys {
  const window = layers.find((layer) => layer.window !== undefined)?.window;
  return {
    'attention.head_count': u32(heads),
    'attention.head_count_kv': u32(kvHeads),
    'attention.key_length': u32(headDim),
    'attention.value_length': u32(headDim),
    'attention.layer_norm_rms_epsilon': f32(normEpsilon),
    'attention.sliding_window': window === undefined ? undefined : u32(window),
    attn_logit_softcapping: attentionSoftcap === undefined ? undefined : f32(attentionSoftcap),
    final_logit_softcapping: logitSoftcap === undefined ? undefined : f32(logitSoftcap),
  };
}

function expertKeys({ layers, gguf }: DecoderShape): Keys {
  const moe = layers.find((layer) => layer.moe)?.moe;
  if (!moe) return {};
  // The architecture `llama` has the size of its experts where others have that of their MLP.
  const own = gguf.architecture !== 'llama';
  return {
    expert_count: u32(moe.experts),
    expert_used_count: u32(moe.used),
    expert_feed_forward_length: own ? u32(moe.inner) : undefined,
    expert_shared_feed_forward_length: moe.sharedInner === undefined ? undefined : u32(moe.sharedInner),
  };
}

/** The rope of the layers that see everything; where those with a window have another, its base is all that files say of it. */
function describeRope({ layers }: DecoderShape): { keys: Keys; vectors: GgufForm['vectors'] } {
  const first = layers[0]!;
  const { rope } = layers.find(({ window }) => window === undefined) ?? first;
  const local = layers.find((layer) => layer.rope.name !== rope.name)?.rope;
  const common: Keys = {
    'rope.dimension_count': u32(rope.rotaryDims),
    'rope.freq_base': f32(rope.theta),
    'rope.freq_base_swa': local && f32(local.theta),
  };
  return { keys: { ...common, ...scalingKeys(rope.scaling) }, vectors: new Map(scalingVectors(rope.scaling)) };
}

function scalingKeys(scaling: RopeScaling | undefined): Keys {
  if (!scaling || scaling.type === 'factors') return {};
  const type: GgufEntry = { type: 'string', value: scaling.type };
  if (scaling.type === 'linear') return { 'rope.scaling.type': type, 'rope.scaling.factor': f32(scaling.factor) };
  const original = { 'rope.scaling.original_context_length': u32(scaling.originalContext) };
  if (scaling.type === 'longrope') return { ...original, 'rope.scaling.attn_factor': f32(scaling.attention) };
  // ggml multiplies by this growth itself.
  const growth = 1 + 0.1 * Math.log(scaling.factor);
  return {
    'rope.scaling.type': type,
    'rope.scaling.factor': f32(scaling.factor),
    ...original,
    'rope.scaling.attn_factor': Math.abs(scaling.attention - growth) < 1e-6 ? undefined : f32(scaling.attention / growth),
    'rope.scaling.yarn_beta_fast': f32(scaling.betaFast),
    'rope.scaling.yarn_beta_slow': f32(scaling.betaSlow),
  };
}

function scalingVectors(scaling: RopeScaling | undefined): [string, readonly number[]][] {
  if (scaling?.type === 'factors') return [['rope_freqs.weight', scaling.factors]];
  if (scaling?.type !== 'longrope') return [];
  return [
    ['rope_factors_long.weight', scaling.long],
    ['rope_factors_short.weight', scaling.short],
  ];
}
