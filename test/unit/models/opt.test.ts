import { readFile } from 'node:fs/promises';
import { describe, expect, it } from 'vitest';
import type { Model } from '../../../src/models/model.ts';
import { publishedConfig } from '../../../src/models/opt-sizes.ts';
import { opt } from '../../../src/models/opt.ts';
import { createReferenceDevice } from '../../../src/tensor/reference-device.ts';
import { promptLogprobs } from '../../helpers/run-model.ts';

const FIXTURES = new URL('../../fixtures/models/', import.meta.url);
/** From the fixtures' README: float32 against float32, and rounding of the file. */
const TOLERANCE = 3e-4;

interface Golden {
  readonly prompts: readonly number[][];
  readonly prompt_logprobs: readonly (number | null)[][];
}

async function readJson(path: string): Promise<unknown> {
  return JSON.parse(await readFile(new URL(path, FIXTURES), 'utf8'));
}

const config = (overrides: Record<string, unknown> = {}): Record<string, unknown> => ({
  model_type: 'opt',
  vocab_size: 100,
  hidden_size: 8,
  word_embed_proj_dim: 8,
  ffn_dim: 24,
  num_hidden_layers: 2,
  num_attention_heads: 2,
  max_position_embeddings: 16,
  ...overrides,
});

const weightsOf = (model: Model) => model.layers.flatMap((layer) => layer.weights);

/** Of distinct weights: a tied one counts once. */
function parameterCount(model: Model): number {
  const sizes = new Map(weightsOf(model).map(({ name, shape }) => [name, shape.reduce((product, n) => product * n, 1)]));
  return [...sizes.values()].reduce((sum, n) => sum + n, 0);
}

describe('opt on the golden fixtures', () => {
  const cases = ['opt', 'opt-350m-style', 'galactica'].flatMap((name) => ['config.json', 'config.v5.json'].map((form) => ({ name, form })));
  it.each(cases)('computes the log-probabilities of $name from $form', async ({ name, form }) => {
    const model = opt((await readJson(`${name}/${form}`)) as Record<string, unknown>, form);
    const golden = (await readJson(`${name}/golden.json`)) as Golden;
    // The lengths 2, 33 and 65: within a page, and over its border.
    for (const length of [2, 33, 65]) {
      const index = golden.prompts.findIndex((prompt) => prompt.length === length);
      const got = await promptLogprobs(
        createReferenceDevice(),
        model,
        new URL(`${name}/model.safetensors`, FIXTURES),
        golden.prompts[index]!,
      );
      const wanted = golden.prompt_logprobs[index]!.slice(1) as number[];
      const errors = wanted.map((logprob, i) => Math.abs(got[i]! - logprob));
      expect(got).toHaveLength(length - 1);
      expect(Math.max(...errors)).toBeLessThan(TOLERANCE);
    }
  });
});

describe('opt', () => {
  it('has the facts of the model and its layers in order', () => {
    const model = opt(config(), 'config.json');
    expect(model).toMatchObject({ family: 'opt', vocabularySize: 100, hiddenSize: 8, contextLength: 16, heads: 2, kvHeads: 2, headDim: 4 });
    expect(model).toMatchObject({ eosTokenIds: [2] });
    expect(model.layers.map(({ name, attends }) => [name, attends])).toEqual([
      ['embed', false],
      ['layer 0', true],
      ['layer 1', true],
      ['head', false],
    ]);
  });

  it('lists shapes and both names that checkpoints have', () => {
    const [embed, block, , head] = opt(config(), 'config.json').layers.map((layer) => layer.weights);
    expect(embed!.map(({ name, shape }) => [name, ...shape])).toEqual([
      ['token_embd.weight', 100, 8],
      ['position_embd.weight', 18, 8],
    ]);
    const shapes = Object.fromEntries(block!.map(({ name, shape }) => [name.replace('blk.0.', ''), shape]));
    const square = Object.fromEntries(['q', 'k', 'v', 'output'].map((part) => [`attn_${part}.weight`, [8, 8]]));
    const vectors = [
      'attn_norm.weight',
      'ffn_norm.weight',
      ...['attn_norm', 'attn_q', 'attn_k', 'attn_v', 'attn_output', 'ffn_norm', 'ffn_down'].map((n) => `${n}.bias`),
    ];
    expect(shapes).toEqual({
      ...square,
      ...Object.fromEntries(vectors.map((name) => [name, [8]])),
      'ffn_up.weight': [24, 8],
      'ffn_up.bias': [24],
      'ffn_down.weight': [8, 24],
    });
    expect(head!.map(({ name }) => name)).toEqual(['output_norm.weight', 'output_norm.bias', 'token_embd.weight']);
    expect(block!.find(({ name }) => name === 'blk.0.attn_output.bias')!.sources).toEqual([
      'model.decoder.layers.0.self_attn.out_proj.bias',
      'decoder.layers.0.self_attn.out_proj.bias',
    ]);
  });

  it.each([
    ['no biases', { enable_bias: false }, /attn_q\.bias|ffn_up\.bias/],
    ['no norm parameters', { layer_norm_elementwise_affine: false }, /norm/],
    ['no final norm', { _remove_final_layer_norm: true }, /output_norm/],
    ['no final norm, norms being last', { do_layer_norm_before: false }, /output_norm/],
    ['no projections of equal sizes', { word_embed_proj_dim: null }, /project/],
  ])('lists %s if so configured', (_what, overrides, missing) => {
    const names = weightsOf(opt(config(overrides), 'config.json')).map(({ name }) => name);
    expect(names.filter((name) => missing.test(name))).toEqual([]);
  });

  it('multiplies by lm_head.weight when the head is not tied', () => {
    const head = opt(config({ tie_word_embeddings: false, word_embed_proj_dim: 4 }), 'config.json').layers.at(-1)!;
    expect(head.weights.slice(-2)).toMatchObject([
      { name: 'project_out.weight', shape: [4, 8] },
      { name: 'output.weight', shape: [100, 4], sources: ['lm_head.weight'] },
    ]);
  });

  it('has the defaults of the transformers class, those of opt-125m', () => {
    const { layers: _, ...facts } = opt({}, 'config.json');
    const { layers: __, ...wanted } = opt(publishedConfig('opt-125m')!, 'config.json');
    expect(facts).toEqual(wanted);
    expect(parameterCount(opt({}, 'config.json'))).toBe(125_239_296);
  });

  it.each([
    ['eos list', { eos_token_id: [2, 50118] }, { eosTokenIds: [2, 50118] }],
    ['no eos', { eos_token_id: null }, { eosTokenIds: [] }],
  ])('takes %s', (_what, overrides, wanted) => {
    expect(opt(config(overrides), 'config.json')).toMatchObject(wanted);
  });

  it.each([
    [{ hidden_size: 'wide' }, /^dir\/config\.json: "hidden_size": a whole number from 1 to \d+ expected, got "wide"/],
    [{ hidden_size: 2 ** 40 }, /"hidden_size": .* got 1099511627776/],
    [{ num_hidden_layers: 1e9 }, /"num_hidden_layers": .* got 1000000000/],
    [{ ffn_dim: -1 }, /"ffn_dim": .* got -1/],
    [{ vocab_size: 0.5 }, /"vocab_size": .* got 0.5/],
    [{ max_position_embeddings: 2 ** 31 }, /"max_position_embeddings": /],
    [{ num_attention_heads: 3 }, /"num_attention_heads": a divisor of hidden_size 8 expected, got 3/],
    [{ activation_function: 'swish' }, /"activation_function": one of relu, gelu expected, got "swish"/],
    [{ do_layer_norm_before: 'yes' }, /"do_layer_norm_before": true or false expected, got "yes"/],
    [{ eos_token_id: '</s>' }, /"eos_token_id": a token id or a list of them expected/],
    [{ bos_token_id: -1 }, /"bos_token_id": a token id expected, got -1/],
    [{ hidden_size: 'x'.repeat(1000) }, /got "x{79}\.\.\.$/],
  ])('refuses %j', (overrides, message) => {
    expect(() => opt(config(overrides), 'dir/config.json')).toThrow(message);
  });
});

describe('publishedConfig', () => {
  // Parameters of the published checkpoints, the tied table counted once.
  it.each([
    ['opt-125m', 125_239_296],
    ['opt-350m', 331_196_416],
    ['opt-1.3b', 1_315_758_080],
    ['opt-2.7b', 2_651_596_800],
    ['opt-6.7b', 6_658_473_984],
  ])('%s has %i parameters', (name, count) => {
    expect(parameterCount(opt(publishedConfig(name)!, name))).toBe(count);
  });

  // FlexGen's table of model sizes: fp16, without the position table and with a few biases left out.
  it.each([
    ['opt-125m', 0.23],
    ['opt-1.3b', 2.443],
    ['opt-2.7b', 4.929],
    ['opt-6.7b', 12.386],
    ['opt-13b', 23.921],
    ['opt-30b', 55.803],
    ['galactica-30b', 55.8],
    ['opt-66b', 122.375],
    ['opt-175b', 325.175],
    ['opt-175b-stage', 82.157],
  ])('%s takes %d GiB in fp16', (name, gib) => {
    const model = opt(publishedConfig(name)!, name);
    const positions = (model.contextLength + 2) * model.hiddenSize;
    const got = (2 * (parameterCount(model) - positions)) / 2 ** 30;
    expect(Math.abs(got / gib - 1)).toBeLessThan(0.002);
  });

  it.each([
    ['facebook/opt-125m', { hidden_size: 768, activation_function: 'relu' }],
    ['OPT-30B', { hidden_size: 7168 }],
    ['opt-iml-30b', { hidden_size: 7168 }],
    ['facebook/opt-iml-max-1.3b', { hidden_size: 2048, vocab_size: 50272 }],
    ['opt-350m', { do_layer_norm_before: false, word_embed_proj_dim: 512 }],
    ['facebook/galactica-120b', { hidden_size: 10240, num_hidden_layers: 96, vocab_size: 50000, enable_bias: false }],
  ])('knows %s', (name, wanted) => {
    expect(publishedConfig(name)).toMatchObject(wanted);
  });

  it.each(['opt-7b', 'opt', '', 'gpt2', 'galactica-iml-30b', 'someone/opt-125m', 'opt-constructor', 'opt-125m/x'])(
    'does not know %j',
    (name) => {
      expect(publishedConfig(name)).toBeUndefined();
    },
  );
});
