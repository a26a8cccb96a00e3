import { describe, expect, it } from 'vitest';
import { PUBLISHED_OPT_NAMES, publishedConfig } from '../../../src/models/opt-sizes.ts';
import { buildModel } from '../../../src/models/registry.ts';
import { FormatError } from '../../../src/util/errors.ts';

describe('buildModel', () => {
  it.each(PUBLISHED_OPT_NAMES)('builds %s', (name) => {
    const config = publishedConfig(name)!;
    expect(buildModel(config, name).layers).toHaveLength((config['num_hidden_layers'] as number) + 2);
  });

  it.each([
    [{ model_type: 'made-up' }, /^config\.json: "model_type": one of opt, llama, mistral, mixtral, .* expected, got "made-up"$/],
    [{ model_type: 'toString' }, /one of opt, llama, mistral, mixtral, .* expected, got "toString"/],
    [{}, /one of opt, llama, mistral, mixtral, .* expected, got nothing/],
    [{ model_type: 7 }, /got 7/],
    [[], /is not a JSON object/],
    [null, /is not a JSON object/],
  ])('refuses %j', (config, message) => {
    expect(() => buildModel(config, 'config.json')).toThrow(message);
    expect(() => buildModel(config, 'config.json')).toThrow(FormatError);
  });
});
