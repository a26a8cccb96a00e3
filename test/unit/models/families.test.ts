import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { Model, WeightSpec } from '../../../src/models/model.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { FormatError } from '../../../src/util/errors.ts';
import { fixtureFolder, type FixtureModel } from '../../helpers/golden.ts';

const build = (config: Readonly<Record<string, unknown>>): Model => buildModel(config, 'dir/config.json');
const weightsOf = (model: Model): WeightSpec[] => [
  ...new Map(model.layers.flatMap(({ weights }) => weights).map((weight) => [weight.name, weight])).values(),
];
const stored = (model: Model): WeightSpec[] => weightsOf(model).filter(({ values }) => values === undefined);
const windows = (model: Model) => model.layers.filter(({ attends }) => attends).map(({ window }) => window);

function parameterCount(model: Model): number {
  return stored(model).reduce((sum, { shape }) => sum + shape.reduce((a, b) => a * b, 1), 0);
}

describe('families', () => {
  // Parameters of published checkpoints. The classes' defaults are the first published size of each, except for Qwen and Gemma 3.
  it.each<[string, Record<string, unknown>, number]>([
    ['Llama-2-7b', { model_type: 'llama' }, 6_738_415_616],
    [
      'Llama-3.2-1B',
      {
        model_type: 'llama',
        vocab_size: 128256,
        hidden_size: 2048,
        intermediate_size: 8192,
        num_hidden_layers: 16,
        num_key_value_heads: 8,
        head_dim: 64,
        tie_word_embeddings: true,
      },
      1_235_814_400,
    ],
    ['Mistral-7B', { model_type: 'mistral' }, 7_241_732_096],
    [
      'Qwen2.5-0.5B',
      {
        model_type: 'qwen2',
        hidden_size: 896,
        intermediate_size: 4864,
        num_hidden_layers: 24,
        num_attention_heads: 14,
        num_key_value_heads: 2,
        tie_word_embeddings: true,
      },
      494_032_768,
    ],
    [
      'Qwen3-0.6B',
      {
        model_type: 'qwen3',
        hidden_size: 1024,
        intermediate_size: 3072,
        num_hidden_layers: 28,
        num_attention_heads: 16,
        num_key_value_heads: 8,
        tie_word_embeddings: true,
      },
      596_049_920,
    ],
    ['Mixtral-8x7B', { model_type: 'mixtral' }, 46_702_792_704],
    ['Qwen1.5-MoE-A2.7B', { model_type: 'qwen2_moe' }, 14_315_784_192],
    ['Qwen3-30B-A3B', { model_type: 'qwen3_moe', num_hidden_layers: 48, head_dim: 128 }, 30_532_122_624],
    ['gemma-7b', { model_type: 'gemma' }, 8_537_680_896],
    ['gemma-2-2b', { model_type: 'gemma2' }, 2_614_341_888],
    [
      'gemma-3-1b',
      {
        model_type: 'gemma3_text',
        vocab_size: 262144,
        hidden_size: 1152,
        intermediate_size: 6912,
        num_attention_heads: 4,
        num_key_value_heads: 1,
      },
      999_885_952,
    ],
    ['Phi-3-mini-4k', { model_type: 'phi3' }, 3_821_079_552],
  ])('%s has the parameters of the published checkpoint', (_name, config, count) => {
    expect(parameterCount(build(config))).toBe(count);
  });

  const FIXTURES: readonly FixtureModel[] = [
    'llama3',
    'llama-yarn',
    'mistral',
    'qwen2',
    'qwen3',
    'mixtral',
    'qwen2_moe',
    'qwen3_moe',
    'gemma',
    'gemma2',
    'gemma3',
    'phi3',
  ];
  it.each(FIXTURES)('%s is the same from both forms of its configuration', async (name) => {
    const [old, recent] = await Promise.all(
      ['config.json', 'config.v5.json'].map(async (form) =>
        build(JSON.parse(await readFile(`${fixtureFolder(name)}/${form}`, 'utf8')) as Record<string, unknown>),
      ),
    );
    expect(JSON.stringify(old)).toBe(JSON.stringify(recent));
  });

  it.each<[string, Record<string, unknown>, (number | undefined)[]]>([
    ['mistral, by default', { model_type: 'mistral', num_hidden_layers: 2 }, [4096, 4096]],
    ['mistral without', { model_type: 'mistral', num_hidden_layers: 1, sliding_window: null }, [undefined]],
    ['qwen2, by default', { model_type: 'qwen2', num_hidden_layers: 2, sliding_window: 7 }, [undefined, undefined]],
    [
      'qwen2 in the last layers',
      { model_type: 'qwen2', num_hidden_layers: 3, use_sliding_window: true, sliding_window: 7, max_window_layers: 1 },
      [undefined, 7, 7],
    ],
    [
      'qwen3 in all layers',
      { model_type: 'qwen3', num_hidden_layers: 2, use_sliding_window: true, sliding_window: 7, max_window_layers: 0 },
      [7, 7],
    ],
    ['gemma2 in every other layer', { model_type: 'gemma2', num_hidden_layers: 4, sliding_window: 9 }, [9, undefined, 9, undefined]],
    [
      'gemma2 by layer types',
      { model_type: 'gemma2', num_hidden_layers: 2, layer_types: ['full_attention', 'sliding_attention'] },
      [undefined, 4096],
    ],
    ['gemma3 but in every sixth', { model_type: 'gemma3_text', num_hidden_layers: 7 }, [4096, 4096, 4096, 4096, 4096, undefined, 4096]],
    ['phi3, by default', { model_type: 'phi3', num_hidden_layers: 1 }, [undefined]],
    ['phi3 with', { model_type: 'phi3', num_hidden_layers: 1, sliding_window: 2047 }, [2047]],
  ])('windows: %s', (_what, config, wanted) => {
    expect(windows(build(config))).toEqual(wanted);
  });

  it('has as many key heads as heads when their number is null', () => {
    expect(build({ model_type: 'mistral', num_key_value_heads: null })).toMatchObject({ heads: 32, kvHeads: 32 });
  });

  it('has heads that do not fill the hidden size', () => {
    const model = build({ model_type: 'mistral', hidden_size: 5120, head_dim: 128 });
    expect(weightsOf(model).find(({ name }) => name === 'blk.0.attn_output.weight')!.shape).toEqual([5120, 4096]);
  });

  it('reads fused projections by rows', () => {
    const model = build({ model_type: 'phi3', hidden_size: 64, num_attention_heads: 4, num_key_value_heads: 2, intermediate_size: 48 });
    const parts = stored(model).flatMap(({ name, shape, rows, sources }) =>
      name.startsWith('blk.0.') && rows ? [[name, shape[0], rows.from, rows.of, sources[0]]] : [],
    );
    expect(parts).toEqual([
      ['blk.0.attn_q.weight', 64, 0, 128, 'model.layers.0.self_attn.qkv_proj.weight'],
      ['blk.0.attn_k.weight', 32, 64, 128, 'model.layers.0.self_attn.qkv_proj.weight'],
      ['blk.0.attn_v.weight', 32, 96, 128, 'model.layers.0.self_attn.qkv_proj.weight'],
      ['blk.0.ffn_gate.weight', 48, 0, 96, 'model.layers.0.mlp.gate_up_proj.weight'],
      ['blk.0.ffn_up.weight', 48, 48, 96, 'model.layers.0.mlp.gate_up_proj.weight'],
    ]);
  });

  it.each([
    ['all', {}, [0, 1, 2, 3]],
    ['every second', { decoder_sparse_step: 2 }, [1, 3]],
    ['all but those listed', { mlp_only_layers: [0, 3] }, [1, 2]],
  ])('has experts in %s', (_what, keys, wanted) => {
    const model = build({ model_type: 'qwen3_moe', num_hidden_layers: 4, num_experts: 4, num_experts_per_tok: 2, ...keys });
    const layers = [0, 1, 2, 3].filter((layer) => stored(model).some(({ name }) => name === `blk.${layer}.ffn_up_exps.weight`));
    expect(layers).toEqual(wanted);
  });

  it.each(['gemma', 'gemma2', 'gemma3_text'])('adds 1 to all norm weights of %s', (type) => {
    const vectors = stored(build({ model_type: type })).filter(({ role }) => role === 'vector');
    expect(vectors.length).toBeGreaterThan(10);
    expect(vectors.every(({ offset }) => offset === 1)).toBe(true);
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ model_type: 'llama', num_key_value_heads: 5 }, /"num_key_value_heads": a divisor of num_attention_heads 32 expected, got 5/],
    [{ model_type: 'llama', num_attention_heads: 33 }, /"num_attention_heads": a divisor of hidden_size 4096 expected, got 33/],
    [{ model_type: 'llama', hidden_act: 'mish' }, /"hidden_act": one of silu, swish, gelu, .* expected, got "mish"/],
    [{ model_type: 'llama', rms_norm_eps: 0 }, /"rms_norm_eps": a number above 0 expected, got 0/],
    [{ model_type: 'llama', head_dim: 1e9 }, /"head_dim": a whole number from 1 to \d+, or null, expected/],
    [{ model_type: 'llama', rope_scaling: 'linear' }, /"rope_scaling": an object expected, got "linear"/],
    [
      { model_type: 'llama', rope_scaling: { type: 'dynamic', factor: 2 } },
      /"rope_scaling\.type": one of default, linear, .* got "dynamic"/,
    ],
    [
      { model_type: 'llama', rope_parameters: { rope_type: 'linear' } },
      /"rope_parameters\.factor": a number above 0 expected, got nothing/,
    ],
    [{ model_type: 'gemma2', layer_types: ['full_attention'] }, /"layer_types": a list of 26 of full_attention, sliding_attention/],
    [{ model_type: 'gemma3_text', use_bidirectional_attention: true }, /"use_bidirectional_attention": false or null expected, got true/],
    [{ model_type: 'gemma3' }, /"text_config": an object expected, got nothing/],
    [{ model_type: 'mixtral', num_experts_per_tok: 9 }, /"num_experts_per_tok": a whole number from 1 to 8 expected, got 9/],
    [{ model_type: 'qwen2_moe', mlp_only_layers: [-1] }, /"mlp_only_layers": a list of layer numbers expected, got \[-1\]/],
    [{ model_type: 'mistral', sliding_window: 0 }, /"sliding_window": a whole number from 1/],
  ])('refuses %j', (config, message) => {
    expect(() => build(config)).toThrow(message);
    expect(() => build(config)).toThrow(FormatError);
  });
});
