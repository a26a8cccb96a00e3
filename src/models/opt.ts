/**
 * OPT, OPT-IML and Galactica (OPT without biases and norm parameters, with GELU).
 * Source: `OPTConfig` and `OPTForCausalLM` of transformers; Zhang et al. 2022, arXiv:2205.01068; Taylor et al. 2022, arXiv:2211.09085.
 */
import type { GraphBuilder } from '../tensor/graph.ts';
import type { Activation, Value } from '../tensor/op-graph.ts';
import { internalError } from '../util/errors.ts';
import { layerNorm, layerNormWeights, linear, linearWeights, requireHidden, requireWeight } from './blocks.ts';
import { LIMITS, readConfig } from './config.ts';
import type { LayerInputs, LayerSpec, Model, ModelFamily, WeightSpec } from './model.ts';

/** Rows of the position table in front of position 0. */
const POSITION_OFFSET = 2;
/** torch.nn.LayerNorm's default; OPT's configuration has no key for it. */
const NORM_EPSILON = 1e-5;
const ACTIVATIONS: readonly Activation[] = ['relu', 'gelu'];

interface OptShape {
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly hiddenSize: number;
  /** Columns of the token table; opt-350m has fewer than the hidden state and projects. */
  readonly embeddingSize: number;
  readonly feedForwardSize: number;
  readonly layerCount: number;
  readonly heads: number;
  readonly activation: Activation;
  /** Norms before attention and MLP; otherwise behind their residual sums (opt-350m). */
  readonly normFirst: boolean;
  readonly finalNorm: boolean;
  readonly biases: boolean;
  readonly normParameters: boolean;
  readonly tiedHead: boolean;
}

export const opt: ModelFamily = (config, file): Model => {
  const reader = readConfig(config, file);
  const shape = readShape(config, file);
  reader.tokenId('bos_token_id', 2); // only checked
  return {
    family: 'opt',
    vocabularySize: shape.vocabularySize,
    hiddenSize: shape.hiddenSize,
    contextLength: shape.contextLength,
    heads: shape.heads,
    kvHeads: shape.heads,
    headDim: shape.hiddenSize / shape.heads,
    eosTokenIds: reader.tokenIds('eos_token_id', [2]),
    layers: [embedLayer(shape), ...Array.from({ length: shape.layerCount }, (_, index) => block(shape, index)), headLayer(shape)],
  };
};

function readShape(config: Readonly<Record<string, unknown>>, file: string): OptShape {
  const reader = readConfig(config, file);
  const hiddenSize = reader.count('hidden_size', { max: LIMITS.hiddenSize, fallback: 768 });
  const heads = reader.count('num_attention_heads', { max: LIMITS.heads, fallback: 12 });
  if (hiddenSize % heads !== 0) reader.fail('num_attention_heads', `a divisor of hidden_size ${hiddenSize}`);
  const normFirst = reader.flag('do_layer_norm_before', true);
  return {
    vocabularySize: reader.count('vocab_size', { max: LIMITS.vocabularySize, fallback: 50272 }),
    contextLength: reader.count('max_position_embeddings', { max: LIMITS.contextLength, fallback: 2048 }),
    hiddenSize,
    embeddingSize: reader.count('word_embed_proj_dim', { max: LIMITS.hiddenSize, fallback: hiddenSize }),
    feedForwardSize: reader.count('ffn_dim', { max: LIMITS.feedForwardSize, fallback: 3072 }),
    layerCount: reader.count('num_hidden_layers', { max: LIMITS.layers, fallback: 12 }),
    heads,
    activation: reader.oneOf('activation_function', ACTIVATIONS, 'relu'),
    normFirst,
    finalNorm: normFirst && !reader.flag('_remove_final_layer_norm', false),
    biases: reader.flag('enable_bias', true),
    normParameters: reader.flag('layer_norm_elementwise_affine', true),
    tiedHead: reader.flag('tie_word_embeddings', true),
  };
}

function embedLayer(shape: OptShape): LayerSpec {
  const { hiddenSize, embeddingSize, contextLength } = shape;
  const positions: WeightSpec = {
    name: 'position_embd.weight',
    shape: [contextLength + POSITION_OFFSET, hiddenSize],
    role: 'table',
    sources: sources('embed_positions.weight'),
  };
  const projected = embeddingSize !== hiddenSize;
  return {
    name: 'embed',
    attends: false,
    weights: [tokenTable(shape), positions, ...(projected ? projection('project_in', embeddingSize, hiddenSize) : [])],
    build(graph, inputs) {
      const tokens = graph.embed(requireWeight(inputs, 'token_embd.weight'), 'token');
      const hidden = projected ? linear(graph, inputs, tokens, 'project_in') : tokens;
      return graph.add(hidden, graph.embed(requireWeight(inputs, 'position_embd.weight'), 'position', { offset: POSITION_OFFSET }));
    },
  };
}

function block(shape: OptShape, index: number): LayerSpec {
  const own = `blk.${index}`;
  return {
    name: `layer ${index}`,
    attends: true,
    weights: blockWeights(shape, index),
    build(graph, inputs) {
      const norm = (name: string) => (x: Value) => layerNorm(graph, inputs, x, `${own}.${name}`, NORM_EPSILON);
      const attended = sublayer(shape, requireHidden(inputs), norm('attn_norm'), (x, residual) =>
        linear(graph, inputs, attention(graph, inputs, shape, x, own), `${own}.attn_output`, { residual }),
      );
      return sublayer(shape, attended, norm('ffn_norm'), (x, residual) => {
        const inner = linear(graph, inputs, x, `${own}.ffn_up`, { activation: shape.activation });
        return linear(graph, inputs, inner, `${own}.ffn_down`, { residual });
      });
    },
  };
}

/** x + body(norm(x)), or norm(x + body(x)). The body adds the residual. */
function sublayer({ normFirst }: OptShape, x: Value, norm: (x: Value) => Value, body: (x: Value, residual: Value) => Value): Value {
  return normFirst ? body(norm(x), x) : norm(body(x, x));
}

function attention(graph: GraphBuilder, inputs: LayerInputs, { heads, hiddenSize }: OptShape, x: Value, own: string): Value {
  if (!inputs.cache) throw internalError(`${own} was built without its cache`);
  const headDim = hiddenSize / heads;
  const [q, k, v] = (['q', 'k', 'v'] as const).map((part) => linear(graph, inputs, x, `${own}.attn_${part}`)) as [Value, Value, Value];
  return graph.attention(q, k, v, inputs.cache, { heads, kvHeads: heads, headDim, scale: 1 / Math.sqrt(headDim) });
}

function blockWeights({ hiddenSize, feedForwardSize, biases: bias, normParameters }: OptShape, index: number): WeightSpec[] {
  const own = `blk.${index}`;
  const from = (name: string): string[] => sources(`layers.${index}.${name}`);
  const square = { inputs: hiddenSize, outputs: hiddenSize, bias };
  const norm = (name: string, source: string) => (normParameters ? layerNormWeights(`${own}.${name}`, hiddenSize, from(source)) : []);
  return [
    ...norm('attn_norm', 'self_attn_layer_norm'),
    ...linearWeights(`${own}.attn_q`, { ...square, sources: from('self_attn.q_proj') }),
    ...linearWeights(`${own}.attn_k`, { ...square, sources: from('self_attn.k_proj') }),
    ...linearWeights(`${own}.attn_v`, { ...square, sources: from('self_attn.v_proj') }),
    ...linearWeights(`${own}.attn_output`, { ...square, sources: from('self_attn.out_proj') }),
    ...norm('ffn_norm', 'final_layer_norm'),
    ...linearWeights(`${own}.ffn_up`, { inputs: hiddenSize, outputs: feedForwardSize, bias, sources: from('fc1') }),
    ...linearWeights(`${own}.ffn_down`, { inputs: feedForwardSize, outputs: hiddenSize, bias, sources: from('fc2') }),
  ];
}

function headLayer(shape: OptShape): LayerSpec {
  const { hiddenSize, embeddingSize, vocabularySize, finalNorm, normParameters, tiedHead } = shape;
  const projected = embeddingSize !== hiddenSize;
  const table = tiedHead
    ? [tokenTable(shape)]
    : linearWeights('output', { inputs: embeddingSize, outputs: vocabularySize, bias: false, sources: ['lm_head'] });
  const norm = finalNorm && normParameters ? layerNormWeights('output_norm', hiddenSize, sources('final_layer_norm')) : [];
  return {
    name: 'head',
    attends: false,
    weights: [...norm, ...(projected ? projection('project_out', hiddenSize, embeddingSize) : []), ...table],
    build(graph, inputs) {
      const hidden = requireHidden(inputs);
      const normed = finalNorm ? layerNorm(graph, inputs, hidden, 'output_norm', NORM_EPSILON) : hidden;
      const narrow = projected ? linear(graph, inputs, normed, 'project_out') : normed;
      return linear(graph, inputs, narrow, tiedHead ? 'token_embd' : 'output');
    },
  };
}

function tokenTable({ vocabularySize, embeddingSize }: OptShape): WeightSpec {
  return { name: 'token_embd.weight', shape: [vocabularySize, embeddingSize], role: 'table', sources: sources('embed_tokens.weight') };
}

function projection(name: string, inputs: number, outputs: number): WeightSpec[] {
  return linearWeights(name, { inputs, outputs, bias: false, sources: sources(name) });
}

/** Files of the causal model have the long prefix, those of the bare model and early conversions the short one. */
function sources(name: string): string[] {
  return [`model.decoder.${name}`, `decoder.${name}`];
}
