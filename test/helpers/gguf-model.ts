/** Fixture models as the GGUF files that llama.cpp's converter makes of them: its names, its order of rows, its keys. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { openCheckpoint } from '../../src/formats/checkpoint.ts';
import type { WeightSpec } from '../../src/models/model.ts';
import { buildModel } from '../../src/models/registry.ts';
import { elementCount } from '../../src/tensor/dtype.ts';
import { checkpointWeights } from '../../src/weights/checkpoint-weights.ts';
import { type FixtureModel, fixtureFolder } from './golden.ts';
import { type MetadataValue, writeFloatGguf } from './write-float-gguf.ts';

type Config = Readonly<Record<string, unknown>>;

const ARCHITECTURES: Readonly<Record<string, string>> = {
  mistral: 'llama',
  mixtral: 'llama',
  qwen2_moe: 'qwen2moe',
  qwen3_moe: 'qwen3moe',
  gemma3_text: 'gemma3',
};

/** GGUF keys behind the architecture, and the keys of `config.json` that have the same meaning. */
const KEYS: Readonly<Record<string, string>> = {
  context_length: 'max_position_embeddings',
  embedding_length: 'hidden_size',
  block_count: 'num_hidden_layers',
  feed_forward_length: 'intermediate_size',
  'attention.head_count': 'num_attention_heads',
  'attention.head_count_kv': 'num_key_value_heads',
  'attention.key_length': 'head_dim',
  'attention.sliding_window': 'sliding_window',
  expert_count: 'num_local_experts',
  expert_used_count: 'num_experts_per_tok',
  expert_feed_forward_length: 'moe_intermediate_size',
  expert_shared_feed_forward_length: 'shared_expert_intermediate_size',
};

interface Part {
  readonly name: string;
  readonly shape: readonly number[];
  readonly values: Float32Array;
}

/** @param embedConfig the file carries `config.json`, which says more than GGUF's keys can */
export async function writeFixtureAsGguf(model: FixtureModel, folder: string, embedConfig = false): Promise<string> {
  const file = join(folder, `${model}.gguf`);
  await using checkpoint = await openCheckpoint(fixtureFolder(model));
  const { config } = checkpoint;
  const source = checkpointWeights(checkpoint);
  const parts = new Map<string, Part>();
  for (const layer of buildModel(config, model).layers) {
    for (const spec of layer.weights.filter(({ values }) => !values)) {
      const name = spec.rows?.fusedName ?? spec.name;
      if (parts.has(name)) continue;
      const whole = wholeTensor(spec);
      const weight = source.find(whole, layer.name);
      const bytes = new Uint8Array(elementCount(whole.shape) * (weight.dtype === 'f32' ? 4 : 2));
      await weight.read(0, bytes);
      const values = interleaved(config, spec.name, widen(bytes, weight.dtype), whole.shape);
      parts.set(name, { name, shape: outerShape(spec, whole.shape), values });
    }
  }
  const metadata = embedConfig
    ? [...keysOf(config), ['config.huggingface.json', { type: 'string', value: JSON.stringify(config) }] as const]
    : keysOf(config);
  await writeFile(file, writeFloatGguf(metadata, [...parts.values(), ...ropeFactors(config)]));
  return file;
}

function wholeTensor(spec: WeightSpec): WeightSpec {
  if (!spec.rows) return spec;
  const { rows, ...rest } = spec;
  return { ...rest, shape: [rows.of, ...spec.shape.slice(1)] };
}

/** Experts are one tensor of three dimensions. */
function outerShape({ stack }: WeightSpec, shape: readonly number[]): readonly number[] {
  return stack ? [stack.count, shape[0]! / stack.count, ...shape.slice(1)] : shape;
}

function widen(bytes: Uint8Array<ArrayBuffer>, dtype: string): Float32Array {
  if (dtype === 'f32') return new Float32Array(bytes.buffer);
  if (dtype !== 'bf16') throw new Error(`fixtures of ${dtype} are not written as GGUF`);
  return new Float32Array(Uint32Array.from(new Uint16Array(bytes.buffer), (half) => half << 16).buffer);
}

/** Row (head, half, i) moves to (head, i, half) in queries and keys of the architecture `llama`. */
function interleaved(config: Config, name: string, values: Float32Array, shape: readonly number[]): Float32Array {
  const part = /attn_([qk])\.(weight|bias)$/.exec(name)?.[1];
  if (part === undefined || architectureOf(config) !== 'llama') return values;
  const heads = Number(config[part === 'q' ? 'num_attention_heads' : 'num_key_value_heads']);
  const columns = shape[1] ?? 1;
  const pairs = shape[0]! / heads / 2;
  const result = new Float32Array(values.length);
  for (let row = 0; row < shape[0]!; row++) {
    const [head, half, i] = [Math.floor(row / (2 * pairs)), Math.floor(row / pairs) % 2, row % pairs];
    result.set(values.subarray(row * columns, (row + 1) * columns), (head * 2 * pairs + 2 * i + half) * columns);
  }
  return result;
}

const architectureOf = ({ model_type: type }: Config): string => ARCHITECTURES[String(type)] ?? String(type);

function keysOf(config: Config): (readonly [string, MetadataValue])[] {
  const architecture = architectureOf(config);
  const experts: Config = config['num_experts'] === undefined ? config : { ...config, num_local_experts: config['num_experts'] };
  const slides = config['use_sliding_window'] !== false;
  const counts = Object.entries(KEYS).flatMap(([key, from]): [string, MetadataValue][] => {
    const value = experts[from];
    if (typeof value !== 'number' || (from === 'sliding_window' && !slides)) return [];
    return [[`${architecture}.${key}`, { type: 'u32', value }]];
  });
  const { rope_scaling: scaling } = config as {
    rope_scaling?: { type?: string; rope_type?: string; factor: number; original_max_position_embeddings?: number };
  };
  const type = scaling?.rope_type ?? scaling?.type;
  const original = scaling?.original_max_position_embeddings;
  return [
    ['general.architecture', { type: 'string', value: architecture }],
    ...counts,
    [`${architecture}.attention.layer_norm_rms_epsilon`, { type: 'f32', value: Number(config['rms_norm_eps'] ?? 1e-5) }],
    [`${architecture}.rope.freq_base`, { type: 'f32', value: Number(config['rope_theta'] ?? 10000) }],
    ...(scaling && (type === 'linear' || type === 'yarn')
      ? ([
          [`${architecture}.rope.scaling.type`, { type: 'string', value: type }],
          [`${architecture}.rope.scaling.factor`, { type: 'f32', value: scaling.factor }],
          ...(original === undefined
            ? []
            : ([[`${architecture}.rope.scaling.original_context_length`, { type: 'u32', value: original }]] as const)),
        ] as const)
      : []),
    ['tokenizer.ggml.eos_token_id', { type: 'u32', value: Number(config['eos_token_id']) }],
  ];
}

/** Llama 3's scaling as llama.cpp's converter works it out. Source: its `generate_extra_tensors`. */
function ropeFactors(config: Config): Part[] {
  const scaling = config['rope_scaling'] as Readonly<Record<string, number | string>> | null | undefined;
  if (scaling?.['rope_type'] !== 'llama3') return [];
  const [factor, low, high, context] = ['factor', 'low_freq_factor', 'high_freq_factor', 'original_max_position_embeddings'].map((key) =>
    Number(scaling[key]),
  );
  const headDim = Number(config['hidden_size']) / Number(config['num_attention_heads']);
  const values = Float32Array.from({ length: headDim / 2 }, (_, i) => {
    const wavelength = 2 * Math.PI * Number(config['rope_theta']) ** ((2 * i) / headDim);
    if (wavelength < context! / high!) return 1;
    if (wavelength > context! / low!) return factor!;
    const smooth = (context! / wavelength - low!) / (high! - low!);
    return 1 / ((1 - smooth) / factor! + smooth);
  });
  return [{ name: 'rope_freqs.weight', shape: [values.length], values }];
}
