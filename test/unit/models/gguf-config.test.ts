import { describe, expect, it } from 'vitest';
import { type GgufFacts, GgufKeys, type GgufTranslation } from '../../../src/models/gguf-config.ts';
import { gemma2FromGguf } from '../../../src/models/gemma2.ts';
import { gemma3FromGguf } from '../../../src/models/gemma3.ts';
import { llamaFromGguf } from '../../../src/models/llama.ts';
import { buildGgufModel } from '../../../src/models/registry.ts';

const KEYS = {
  context_length: 8192,
  embedding_length: 2304,
  block_count: 26,
  feed_forward_length: 9216,
  'attention.head_count': 8,
  'attention.head_count_kv': 4,
  'attention.key_length': 256,
  'attention.layer_norm_rms_epsilon': 1e-6,
};
const SHAPES: Readonly<Record<string, readonly number[]>> = { 'token_embd.weight': [1000, 2304] };

function factsOf(architecture: string, keys: Readonly<Record<string, unknown>>, more: Partial<GgufFacts> = {}): GgufFacts {
  const metadata = new Map<string, unknown>([['general.architecture', architecture]]);
  for (const [key, value] of Object.entries(keys)) metadata.set(key.includes('ggml') ? key : `${architecture}.${key}`, value);
  return { file: 'm.gguf', metadata, shapeOf: (name) => SHAPES[name], ropeFactors: new Map(), ...more };
}

function translate(translation: GgufTranslation, architecture: string, keys: Readonly<Record<string, unknown>>, more?: Partial<GgufFacts>) {
  return translation(new GgufKeys(architecture, factsOf(architecture, keys, more)));
}

describe('gemma 2', () => {
  it('has the published configuration of 2B', () => {
    const keys = { ...KEYS, attn_logit_softcapping: 50, final_logit_softcapping: 30, 'attention.sliding_window': 4096 };
    expect(translate(gemma2FromGguf, 'gemma2', keys)).toMatchObject({
      model_type: 'gemma2',
      vocab_size: 1000,
      head_dim: 256,
      query_pre_attn_scalar: 256,
      sliding_window: 4096,
      attn_logit_softcapping: 50,
      tie_word_embeddings: true,
      rope_theta: 10000,
    });
  });

  it('scales the scores of 27B by hidden size over heads', () => {
    const keys = { ...KEYS, embedding_length: 4608, block_count: 46, 'attention.head_count': 32, 'attention.key_length': 128 };
    expect(translate(gemma2FromGguf, 'gemma2', keys)).toMatchObject({ head_dim: 128, query_pre_attn_scalar: 144 });
  });
});

it('gemma 3 has the pattern and the local rope that no key says', () => {
  const keys = {
    ...KEYS,
    'rope.scaling.type': 'linear',
    'rope.scaling.factor': 8,
    'rope.freq_base': 1e6,
    'attention.sliding_window': 1024,
  };
  expect(translate(gemma3FromGguf, 'gemma3', keys)).toMatchObject({
    sliding_window_pattern: 6,
    rope_local_base_freq: 10000,
    rope_theta: 1e6,
    rope_scaling: { rope_type: 'linear', factor: 8 },
  });
});

describe('llama', () => {
  it('is Mixtral with experts and Mistral with a window', () => {
    const experts = { ...KEYS, expert_count: 8, expert_used_count: 2 };
    expect(translate(llamaFromGguf, 'llama', experts)).toMatchObject({
      model_type: 'mixtral',
      num_local_experts: 8,
      num_experts_per_tok: 2,
    });
    expect(translate(llamaFromGguf, 'llama', { ...KEYS, 'attention.sliding_window': 4096 })).toMatchObject({
      model_type: 'mistral',
      sliding_window: 4096,
    });
  });

  it('ends at the end of a sequence, of a turn and of a message', () => {
    const ids = { 'tokenizer.ggml.eos_token_id': 7, 'tokenizer.ggml.eot_token_id': 9, 'tokenizer.ggml.eom_token_id': 9 };
    expect(buildGgufModel(factsOf('llama', { ...KEYS, ...ids })).eosTokenIds).toEqual([7, 9]);
  });

  it('takes a list that says the same for all layers, and refuses one that does not', () => {
    const model = buildGgufModel(factsOf('llama', { ...KEYS, 'attention.head_count_kv': [4, 4, 4] }));
    expect(model.kvHeads).toBe(4);
    expect(() => buildGgufModel(factsOf('llama', { ...KEYS, 'attention.head_count_kv': [4, 2] }))).toThrow(
      /m\.gguf: "llama\.attention\.head_count_kv": one number for all layers expected, got \[4,2\]/,
    );
  });

  it('rotates a part of each head, exactly', () => {
    for (const dims of [2, 74, 118, 254]) {
      const [, block] = buildGgufModel(factsOf('llama', { ...KEYS, 'rope.dimension_count': dims })).layers;
      expect(block!.weights[0]!.shape).toEqual([dims / 2]);
    }
  });
});

describe('refuses', () => {
  it.each([
    ['an architecture that is not known', factsOf('rwkv', KEYS), /"general\.architecture": one of llama, .*phi3 expected, got "rwkv"/],
    [
      'a file without layers',
      factsOf('llama', { ...KEYS, block_count: undefined }),
      /"llama\.block_count": a number expected, got nothing/,
    ],
    ['a wrong type', factsOf('qwen2', { ...KEYS, context_length: 'long' }), /"qwen2\.context_length": a number expected, got "long"/],
    ['numbers beyond all limits', factsOf('llama', { ...KEYS, block_count: 1e9 }), /num_hidden_layers": a whole number from 1 to 1024/],
    ['a file without a token table', factsOf('llama', KEYS, { shapeOf: () => undefined }), /m\.gguf: has no tensor token_embd\.weight/],
    ['an unknown scaling', factsOf('llama', { ...KEYS, 'rope.scaling.type': 'ntk' }), /"llama\.rope\.scaling\.type": one of none, linear/],
  ])('%s', (_what, facts, message) => {
    expect(() => buildGgufModel(facts)).toThrow(message);
  });

  it('an embedded configuration that is not JSON', () => {
    const facts = factsOf('llama', KEYS);
    expect(() => buildGgufModel({ ...facts, metadata: new Map([...facts.metadata, ['config.huggingface.json', '{']]) })).toThrow(
      /m\.gguf: "config\.huggingface\.json" is not JSON/,
    );
  });
});
