/** Mixtures of experts as blocks: weights to ask for, and ops to emit. */
import type { GraphBuilder } from '../tensor/graph.ts';
import type { Activation, LinearOptions, Value } from '../tensor/op-graph.ts';
import { linear, linearWeights, requireWeight } from './blocks.ts';
import type { LayerInputs, WeightSpec } from './model.ts';

export interface MoeShape {
  readonly experts: number;
  /** Experts of one token. */
  readonly used: number;
  /** Columns inside an expert. */
  readonly inner: number;
  /** The shares of the experts of one token sum to 1. */
  readonly normalise: boolean;
  /** Columns inside an expert that all tokens use, times the sigmoid of a gate. Default: there is none. */
  readonly sharedInner?: number;
  readonly sources: MoeSources;
}

/** Names in checkpoints behind the name of the layer. */
export interface MoeSources {
  readonly router: string;
  readonly expert: (index: number, part: 'gate' | 'up' | 'down') => string;
}

/** Those of most families; Mixtral's are its own. */
export const MOE_SOURCES: MoeSources = { router: 'mlp.gate', expert: (index, part) => `mlp.experts.${index}.${part}_proj` };

/** `from` gives the names that checkpoints have for a part of the layer. */
export function moeWeights(own: string, hiddenSize: number, shape: MoeShape, from: (name: string) => string[]): WeightSpec[] {
  const { experts, used, inner, sharedInner, sources } = shape;
  const stacked = (part: 'gate' | 'up' | 'down', outputs: number, inputs: number): WeightSpec => ({
    name: `${own}.ffn_${part}_exps.weight`,
    shape: [experts * outputs, inputs],
    role: 'matrix',
    sources: [],
    stack: { count: experts, sources: (index) => from(`${sources.expert(index, part)}.weight`) },
    rowsPerToken: used * outputs,
  });
  const shared = (part: string, outputs: number, inputs: number): WeightSpec[] =>
    linearWeights(`${own}.ffn_${part}_shexp`, { inputs, outputs, bias: false, sources: from(`mlp.shared_expert.${part}_proj`) });
  return [
    { name: `${own}.ffn_gate_inp.weight`, shape: [experts, hiddenSize], role: 'router', sources: from(`${sources.router}.weight`) },
    stacked('gate', inner, hiddenSize),
    stacked('up', inner, hiddenSize),
    stacked('down', hiddenSize, inner),
    ...(sharedInner === undefined
      ? []
      : [
          ...linearWeights(`${own}.ffn_gate_inp_shexp`, {
            inputs: hiddenSize,
            outputs: 1,
            bias: false,
            sources: from('mlp.shared_expert_gate'),
          }),
          ...shared('gate', sharedInner, hiddenSize),
          ...shared('up', sharedInner, hiddenSize),
          ...shared('down', hiddenSize, sharedInner),
        ]),
  ];
}

/** What the experts add to the residual stream. */
export function moe(
  graph: GraphBuilder,
  inputs: LayerInputs,
  x: Value,
  { own, shape, activation }: { own: string; shape: MoeShape; activation: Activation },
): Value {
  const experts = (part: string) => requireWeight(inputs, `${own}.ffn_${part}_exps.weight`);
  const { used, normalise } = shape;
  const logits = linear(graph, inputs, x, `${own}.ffn_gate_inp`);
  const mixed = graph.moe(x, logits, { gate: experts('gate'), up: experts('up'), down: experts('down'), used, normalise, activation });
  if (shape.sharedInner === undefined) return mixed;
  const part = (name: string, y: Value, options?: Omit<LinearOptions, 'bias'>): Value =>
    linear(graph, inputs, y, `${own}.ffn_${name}_shexp`, options);
  const inner = part('up', x, { factors: part('gate', x, { activation }) });
  return graph.add(mixed, graph.multiply(part('down', inner), part('gate_inp', x, { activation: 'sigmoid' })));
}
