/**
 * Decoders of the Llama kind: RMS norms, rotary positions, shared key heads and a gated MLP. Families differ in what `DecoderShape` says.
 * Weights are named as in GGUF files.
 */
import type { Weight } from '../tensor/device.ts';
import type { GraphBuilder } from '../tensor/graph.ts';
import type { Activation, LinearOptions, Value } from '../tensor/op-graph.ts';
import { internalError } from '../util/errors.ts';
import { decoderGguf, type GgufTraits } from './decoder-gguf.ts';
import { linear, type LinearSpec, linearWeights, requireHidden, requireWeight, rmsNorm, rmsNormWeights } from './blocks.ts';
import type { LayerInputs, LayerSpec, Model, WeightSpec } from './model.ts';
import { moe, type MoeShape, moeWeights } from './moe.ts';
import type { Rope } from './rope.ts';

export interface DecoderShape {
  readonly family: string;
  readonly vocabularySize: number;
  readonly contextLength: number;
  readonly hiddenSize: number;
  readonly feedForwardSize: number;
  readonly layerCount: number;
  readonly heads: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly normEpsilon: number;
  readonly tiedHead: boolean;
  readonly eosTokenIds: readonly number[];
  readonly activation: Activation;
  readonly layers: readonly DecoderLayer[];
  /** Order of the rows of q and k, and with it which columns rotate together. Default: `half`. */
  readonly ropeStyle?: 'half' | 'interleaved';
  /** Factor of the scores. */
  readonly attentionScale: number;
  readonly attentionSoftcap?: number;
  readonly logitSoftcap?: number;
  /** Factor of the embeddings. */
  readonly embeddingScale?: number;
  /** Default: none. */
  readonly biases?: { readonly qkv?: boolean; readonly output?: boolean; readonly mlp?: boolean };
  /** Added to the stored weights of norms. */
  readonly normOffset?: number;
  /** Queries and keys are normalised, head by head. */
  readonly headNorms?: boolean;
  /** Norms behind attention and MLP too, in front of their residual sums. */
  readonly normsBehind?: boolean;
  /** How GGUF files have the family. */
  readonly gguf: GgufTraits;
  /** Files have q, k and v as one tensor, and gate and up as one. */
  readonly fused?: boolean;
}

export interface DecoderLayer {
  readonly rope: Rope;
  /** Positions that a token sees, its own included. Default: all. */
  readonly window?: number;
  /** Experts instead of the MLP. */
  readonly moe?: MoeShape;
}

export function decoder(shape: DecoderShape): Model {
  const originalContext = shape.layers.find(({ rope }) => rope.long)?.rope.long?.originalContext;
  return {
    family: shape.family,
    vocabularySize: shape.vocabularySize,
    hiddenSize: shape.hiddenSize,
    contextLength: shape.contextLength,
    ...(originalContext !== undefined && { originalContext }),
    heads: shape.heads,
    kvHeads: shape.kvHeads,
    headDim: shape.headDim,
    eosTokenIds: shape.eosTokenIds,
    gguf: decoderGguf(shape),
    layers: [embedLayer(shape), ...shape.layers.map((layer, index) => block(shape, layer, index)), headLayer(shape)],
  };
}

function embedLayer(shape: DecoderShape): LayerSpec {
  return {
    name: 'embed',
    attends: false,
    weights: [tokenTable(shape)],
    build(graph, inputs) {
      const tokens = graph.embed(requireWeight(inputs, 'token_embd.weight'), 'token');
      return shape.embeddingScale === undefined ? tokens : graph.scale(tokens, shape.embeddingScale);
    },
  };
}

function headLayer(shape: DecoderShape): LayerSpec {
  const { hiddenSize, vocabularySize, tiedHead, normEpsilon: epsilon, logitSoftcap } = shape;
  const output = { inputs: hiddenSize, outputs: vocabularySize, bias: false, sources: ['lm_head'] };
  return {
    name: 'head',
    attends: false,
    weights: [
      ...rmsNormWeights('output_norm', hiddenSize, sources('norm'), shape.normOffset),
      ...(tiedHead ? [tokenTable(shape)] : linearWeights('output', output)),
    ],
    build(graph, inputs) {
      const normed = rmsNorm(graph, inputs, requireHidden(inputs), 'output_norm', { epsilon });
      const logits = linear(graph, inputs, normed, tiedHead ? 'token_embd' : 'output');
      return logitSoftcap === undefined ? logits : graph.softcap(logits, logitSoftcap);
    },
  };
}

/** What the parts of one layer read. */
interface Site {
  readonly graph: GraphBuilder;
  readonly inputs: LayerInputs;
  readonly shape: DecoderShape;
  readonly layer: DecoderLayer;
  /** Prefix of the names of its weights. */
  readonly own: string;
}

function block(shape: DecoderShape, layer: DecoderLayer, index: number): LayerSpec {
  const own = `blk.${index}`;
  return {
    name: `layer ${index}`,
    attends: true,
    ...(layer.window !== undefined && { window: layer.window }),
    weights: [...ropeWeights(layer.rope), ...attentionWeights(shape, layer, index), ...mlpWeights(shape, layer, index)],
    build(graph, inputs) {
      const site: Site = { graph, inputs, shape, layer, own };
      const x = requireHidden(inputs);
      const attended = attention(site, normalise(site, x, 'attn_norm'));
      const y = addProjected(site, x, attended, { projection: 'attn_output', normBehind: 'post_attention_norm' });
      const z = normalise(site, y, 'ffn_norm');
      if (layer.moe) return graph.add(y, moe(graph, inputs, z, { own, shape: layer.moe, activation: shape.activation }));
      const inner = gatedMlp(site, z);
      return addProjected(site, y, inner, { projection: 'ffn_down', normBehind: 'post_ffw_norm' });
    },
  };
}

function attention(site: Site, x: Value): Value {
  const { graph, inputs, shape, layer, own } = site;
  if (!inputs.cache) throw internalError(`${own} was built without its cache`);
  const { heads, kvHeads, headDim, attentionScale: scale, attentionSoftcap: softcap } = shape;
  const placed = (part: 'q' | 'k', groups: number): Value => {
    const y = project(site, x, `attn_${part}`);
    const normed = shape.headNorms ? normalise(site, y, `attn_${part}_norm`, groups) : y;
    return rotate(site, normed);
  };
  const [q, k, v] = [placed('q', heads), placed('k', kvHeads), project(site, x, 'attn_v')];
  return graph.attention(q, k, v, inputs.cache, { heads, kvHeads, headDim, scale, softcap, window: layer.window });
}

/** By the position, and where the rope has it so, by the length of the sequence. */
function rotate({ graph, inputs, shape, layer }: Site, x: Value): Value {
  const { rotaryDims, factor, long } = layer.rope;
  const [short, ...others] = ropeWeights(layer.rope).map(({ name }) => requireWeight(inputs, name));
  const by = (divisors: Weight): Value =>
    graph.rope(x, { headDim: shape.headDim, rotaryDims, style: shape.ropeStyle ?? 'half', divisors, factor });
  return long ? graph.byLength(by(short!), by(others[0]!), long.originalContext) : by(short!);
}

function gatedMlp(site: Site, x: Value): Value {
  const factors = project(site, x, 'ffn_gate', { activation: site.shape.activation });
  return project(site, x, 'ffn_up', { factors });
}

/** x + W y, with a norm in between if the family has one there. */
function addProjected(site: Site, x: Value, y: Value, names: { projection: string; normBehind: string }): Value {
  if (!site.shape.normsBehind) return project(site, y, names.projection, { residual: x });
  return site.graph.add(x, normalise(site, project(site, y, names.projection), names.normBehind));
}

function project({ graph, inputs, own }: Site, x: Value, name: string, options?: Omit<LinearOptions, 'bias'>): Value {
  return linear(graph, inputs, x, `${own}.${name}`, options);
}

function normalise({ graph, inputs, shape, own }: Site, x: Value, name: string, groups = 1): Value {
  return rmsNorm(graph, inputs, x, `${own}.${name}`, { epsilon: shape.normEpsilon, groups });
}

function attentionWeights(shape: DecoderShape, { rope }: DecoderLayer, index: number): WeightSpec[] {
  const { hiddenSize, heads, kvHeads, headDim, biases = {}, headNorms, normsBehind, normOffset } = shape;
  const own = `blk.${index}`;
  const from = (name: string): string[] => sources(`layers.${index}.${name}`);
  const norm = (name: string, size: number, source: string) => rmsNormWeights(`${own}.${name}`, size, from(source), normOffset);
  const [queries, keys] = [heads * headDim, kvHeads * headDim];
  const projections = shape.fused
    ? fusedLinears([queries, keys, keys], from('self_attn.qkv_proj'), `${own}.attn_qkv`)
    : [queries, keys, keys].map((outputs, i) => ({
        outputs,
        sources: from(`self_attn.${'qkv'[i]}_proj`),
        ...(shape.gguf.interleave && i < 2 && { interleave: { headRows: headDim, rotatedRows: rope.rotaryDims } }),
      }));
  const output = { inputs: queries, outputs: hiddenSize, bias: biases.output ?? false, sources: from('self_attn.o_proj') };
  return [
    ...norm('attn_norm', hiddenSize, 'input_layernorm'),
    ...projections.flatMap((part, i) =>
      linearWeights(`${own}.attn_${'qkv'[i]}`, { inputs: hiddenSize, bias: biases.qkv ?? false, ...part }),
    ),
    ...(headNorms ? ['q', 'k'].flatMap((part) => norm(`attn_${part}_norm`, headDim, `self_attn.${part}_norm`)) : []),
    ...linearWeights(`${own}.attn_output`, output),
    ...(normsBehind ? norm('post_attention_norm', hiddenSize, 'post_attention_layernorm') : []),
  ];
}

function mlpWeights(shape: DecoderShape, layer: DecoderLayer, index: number): WeightSpec[] {
  const { hiddenSize, feedForwardSize, biases = {}, normsBehind, normOffset } = shape;
  const own = `blk.${index}`;
  const bias = biases.mlp ?? false;
  const from = (name: string): string[] => sources(`layers.${index}.${name}`);
  const norm = (name: string, source: string) => rmsNormWeights(`${own}.${name}`, hiddenSize, from(source), normOffset);
  const normBefore = norm('ffn_norm', normsBehind ? 'pre_feedforward_layernorm' : 'post_attention_layernorm');
  if (layer.moe) return [...normBefore, ...moeWeights(own, hiddenSize, layer.moe, from)];
  const inner = shape.fused
    ? fusedLinears([feedForwardSize, feedForwardSize], from('mlp.gate_up_proj'), `${own}.ffn_up`)
    : ['gate', 'up'].map((part) => ({ outputs: feedForwardSize, sources: from(`mlp.${part}_proj`) }));
  return [
    ...normBefore,
    ...inner.flatMap((part, i) => linearWeights(`${own}.ffn_${['gate', 'up'][i]}`, { inputs: hiddenSize, bias, ...part })),
    ...linearWeights(`${own}.ffn_down`, { inputs: feedForwardSize, outputs: hiddenSize, bias, sources: from('mlp.down_proj') }),
    ...(normsBehind ? norm('post_ffw_norm', 'post_feedforward_layernorm') : []),
  ];
}

/** Parts of one stored tensor, one below the other. */
function fusedLinears(
  outputs: readonly number[],
  from: readonly string[],
  fusedName: string,
): Pick<LinearSpec, 'outputs' | 'sources' | 'rows'>[] {
  const of = outputs.reduce((a, b) => a + b, 0);
  let first = 0;
  return outputs.map((count) => {
    const rows = { from: first, of, fusedName };
    first += count;
    return { outputs: count, sources: from, rows };
  });
}

function ropeWeights({ name, divisors, long }: Rope): WeightSpec[] {
  const vector = (part: string, values: readonly number[]): WeightSpec => ({
    name: `${name}.${part}`,
    shape: [values.length],
    role: 'vector',
    sources: [],
    values,
  });
  return [vector('divisors', divisors), ...(long ? [vector('long_divisors', long.divisors)] : [])];
}

function tokenTable({ vocabularySize, hiddenSize }: DecoderShape): WeightSpec {
  return { name: 'token_embd.weight', shape: [vocabularySize, hiddenSize], role: 'table', sources: sources('embed_tokens.weight') };
}

/** Files of the bare model have no prefix, those of models with images have the language model as one part. */
function sources(name: string): string[] {
  return [`model.${name}`, name, `language_model.model.${name}`, `model.language_model.${name}`];
}
