import type { GgufEntry } from '../formats/gguf/gguf-writer.ts';
import type { KvLayer, Weight } from '../tensor/device.ts';
import type { GraphBuilder } from '../tensor/graph.ts';
import type { Value } from '../tensor/op-graph.ts';

/** A weight that a model wants. */
export interface WeightSpec {
  /** Our name, unique in the model. A tied weight has one name in all layers that use it. */
  readonly name: string;
  /** [out, in] for matrices, [n] for vectors. */
  readonly shape: readonly number[];
  /**
   * `matrix` is multiplied with, `table` is looked up in (also multiplied with, if tied), `vector` is a bias or a norm parameter. A `router` is a matrix that is
   * multiplied with in f32, whatever it is stored in: rounding would choose other experts.
   */
  readonly role: 'matrix' | 'table' | 'vector' | 'router';
  /** Names that checkpoints use for it, most common first. */
  readonly sources: readonly string[];
  /** It is these rows of a tensor of `of` rows: a part of a fused projection. */
  readonly rows?: {
    readonly from: number;
    readonly of: number;
    /** Name of the fused tensor in GGUF files; otherwise they have the part under its own name. */
    readonly fusedName?: string;
  };
  /** It is several tensors of equal shape, one below the other, each with names of its own instead of `sources`. */
  readonly stack?: { readonly count: number; readonly sources: (index: number) => readonly string[] };
  /** Rows that one token is multiplied with. Default: all. */
  readonly rowsPerToken?: number;
  /** Added to the elements of a vector that is stored without it, such as 1 where a model multiplies by 1 + weight. */
  readonly offset?: number;
  /** GGUF files have its rows in another order. Only where they are stored as Hugging Face has them. */
  readonly interleave?: Interleave;
  /** The elements of a vector that no checkpoint has, because the configuration decides them. It has no `sources`. */
  readonly values?: readonly number[];
}

/**
 * Rows of queries and keys in heads of `headRows`. The first `rotatedRows` of each are two halves that rotate together, row by row; in
 * GGUF files of some families they alternate: (half, i) stands where (i, half) stood.
 */
export interface Interleave {
  readonly headRows: number;
  readonly rotatedRows: number;
}

/** What a layer's graph reads. */
export interface LayerInputs {
  /** Hidden state that the layer before left, [tokens, hidden]; the first layer has none. */
  readonly hidden?: Value;
  /** By name, as `weights` of the layer lists them. */
  readonly weights: ReadonlyMap<string, Weight>;
  /** Only layers with `attends`. */
  readonly cache?: KvLayer;
}

/** One step of a sweep. All layers but the last run once per micro-batch; the last one runs over the sampled positions only. */
export interface LayerSpec {
  /** Such as `embed`, `layer 3`, `head`. */
  readonly name: string;
  readonly weights: readonly WeightSpec[];
  /** Has keys and values in the cache. */
  readonly attends: boolean;
  /** Positions that its attention sees at most, the token's own included. Default: all. */
  readonly window?: number;
  /** Emits ops and returns the new hidden state, or the logits [rows, vocabulary] in the last layer. */
  build(graph: GraphBuilder, inputs: LayerInputs): Value;
}

/** Numbers of the layers that attend, in their order. */
export function attendingLayers({ layers }: Pick<Model, 'layers'>): number[] {
  return layers.flatMap(({ attends }, layer) => (attends ? [layer] : []));
}

/** Positions that each attending layer sees; Infinity without a window. */
export function attentionWindows({ layers }: Pick<Model, 'layers'>): number[] {
  return layers.filter(({ attends }) => attends).map(({ window = Infinity }) => window);
}

/** A model as plain facts and layers, made from a configuration by one file per family. Knows nothing of where weights live. */
export interface Model {
  /** Such as `opt`. */
  readonly family: string;
  readonly vocabularySize: number;
  /** Columns of the hidden state between layers. */
  readonly hiddenSize: number;
  /** Longest sequence, prompt and completion together. */
  readonly contextLength: number;
  readonly kvHeads: number;
  readonly headDim: number;
  readonly heads: number;
  /** Ids that end a completion. */
  readonly eosTokenIds: readonly number[];
  /**
   * Sequences of more positions than this have other keys at all positions, so they are computed again when they grow beyond it. Missing
   * where the length of a sequence changes nothing.
   */
  readonly originalContext?: number;
  /** In execution order: embedding, blocks, head. */
  readonly layers: readonly LayerSpec[];
  /** How a GGUF file describes it to other programs. Missing where no other program runs the family from such files. */
  readonly gguf?: GgufForm;
}

export interface GgufForm {
  /** `general.architecture` */
  readonly architecture: string;
  /** Typed, with their full names. */
  readonly keys: ReadonlyMap<string, GgufEntry>;
  /** Vectors that belong to the configuration, beside the weights. */
  readonly vectors: ReadonlyMap<string, readonly number[]>;
}

/** How weights are stored: as Hugging Face publishes them, or as GGUF files do, where some families have the rows of q and k in another order. */
export type Storage = 'huggingface' | 'gguf';

/** Builds a family's model from the parsed `config.json`. @throws {FormatError} naming the key, what was expected and what was found */
export type ModelFamily = (config: Readonly<Record<string, unknown>>, file: string, storage?: Storage) => Model;
