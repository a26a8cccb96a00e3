/**
 * The op vocabulary of models. A graph is frozen plain data about values of shape [rows, columns] in f32; devices lower it.
 * Nothing here computes.
 */
import type { KvLayer, Tensor, Weight } from './device.ts';

/** `gelu` is the exact one (erf), `gelu_tanh` its usual approximation. */
export type Activation = 'relu' | 'gelu' | 'gelu_tanh' | 'silu' | 'sigmoid';
/** `rms` subtracts no mean and has no bias. */
export type NormKind = 'layer' | 'rms';

/** An intermediate result: the node with this index makes it. */
export interface Value {
  readonly node: number;
  readonly rows: number;
  readonly columns: number;
}

export interface AttentionOptions {
  readonly heads: number;
  /** Query heads h * heads / kvHeads ... share key head h. */
  readonly kvHeads: number;
  readonly headDim: number;
  /** Factor of the scores. */
  readonly scale: number;
  /** A token sees this many positions, its own included. Default: all. */
  readonly window?: number | undefined;
  /** Scores become cap * tanh(score / cap), before the mask. */
  readonly softcap?: number | undefined;
}

/** Rotation of pairs of columns of every head by an angle that grows with the position. */
export interface RopeOptions {
  /** The columns of x are heads of this many. */
  readonly headDim: number;
  /** The first columns of each head that are rotated. */
  readonly rotaryDims: number;
  /** Column i is paired with i + rotaryDims / 2 (`half`), or column 2i with 2i + 1 (`interleaved`). */
  readonly style: 'half' | 'interleaved';
  /** [rotaryDims / 2]: the angle of pair i at position p is p / divisors[i]. */
  readonly divisors: Weight;
  /** Multiplies the rotated columns. */
  readonly factor: number;
}

/** A mixture of gated experts, stacked in order. The segments of a weight hold whole experts, all in one type. */
export interface MoeOptions {
  /** [experts * inner, columns of x] */
  readonly gate: Weight;
  readonly up: Weight;
  /** [experts * columns of x, inner] */
  readonly down: Weight;
  /** Experts of one token, those with the highest logits. */
  readonly used: number;
  /** Shares are softmax over the chosen experts, otherwise over all. */
  readonly normalise: boolean;
  readonly activation: Activation;
}

export type Node =
  /** The first `rows` rows of a device tensor [n, columns] in f32. */
  | { readonly op: 'load'; readonly tensor: Tensor; readonly out: Value }
  /** Writes x to the first rows of a device tensor [n, columns] in f32. */
  | { readonly op: 'store'; readonly x: Value; readonly tensor: Tensor; readonly out: Value }
  /** Rows of `table` by token id or position; `offset` is added to the index. */
  | { readonly op: 'embed'; readonly table: Weight; readonly by: 'token' | 'position'; readonly offset: number; readonly out: Value }
  /** Rows of a device tensor [n, columns] in f32 by the indices in `ids` (i32). */
  | { readonly op: 'select'; readonly tensor: Tensor; readonly ids: Tensor; readonly out: Value }
  /** activation(x W^T + bias) * factors + residual */
  | {
      readonly op: 'linear';
      readonly x: Value;
      readonly weight: Weight;
      readonly bias?: Weight;
      readonly activation?: Activation;
      readonly factors?: Value;
      readonly residual?: Value;
      readonly out: Value;
    }
  /**
   * Per row and group of columns: (x - mean) / sqrt(variance + epsilon) * weight + bias, or x / sqrt(mean of squares + epsilon) * weight.
   * Groups are equal parts of the columns; all have the same weight and bias, [columns / groups].
   */
  | {
      readonly op: 'norm';
      readonly kind: NormKind;
      readonly groups: number;
      readonly x: Value;
      readonly weight?: Weight;
      readonly bias?: Weight;
      readonly epsilon: number;
      readonly out: Value;
    }
  /** `multiply` takes a b of one column too. */
  | { readonly op: 'add' | 'multiply'; readonly a: Value; readonly b: Value; readonly out: Value }
  | { readonly op: 'scale'; readonly x: Value; readonly factor: number; readonly out: Value }
  /** cap * tanh(x / cap) */
  | { readonly op: 'softcap'; readonly x: Value; readonly cap: number; readonly out: Value }
  /** Sum over the experts with the highest logits of share * down(activation(gate(x)) * up(x)) */
  | ({ readonly op: 'moe'; readonly x: Value; readonly logits: Value; readonly out: Value } & MoeOptions)
  /** Rows of `long` for tokens of sequences of more than `limit` positions, of `short` for others. */
  | { readonly op: 'byLength'; readonly short: Value; readonly long: Value; readonly limit: number; readonly out: Value }
  /** At the positions of the batch's tokens. */
  | ({ readonly op: 'rope'; readonly x: Value; readonly out: Value } & RopeOptions)
  /**
   * Appends k and v to the cache at the rows' positions, then attends causally to all positions of the own row. With a sparsity below 1, tokens that decode
   * use the values of their own position and of the floor(sparsity * others) others that have the largest weights, earlier ones among equals; weights stay
   * those among all positions.
   */
  | ({
      readonly op: 'attention';
      readonly q: Value;
      readonly k: Value;
      readonly v: Value;
      readonly cache: KvLayer;
      /** Default 1. */
      readonly sparsity?: number;
      readonly out: Value;
    } & AttentionOptions);

export interface OpGraph {
  readonly name: string;
  readonly nodes: readonly Node[];
}

export interface LinearOptions {
  readonly bias?: Weight | undefined;
  readonly activation?: Activation;
  readonly factors?: Value;
  readonly residual?: Value;
}

export interface NormOptions {
  readonly kind: NormKind;
  /** Default 1. */
  readonly groups?: number;
  readonly weight?: Weight | undefined;
  readonly bias?: Weight | undefined;
  readonly epsilon: number;
}
