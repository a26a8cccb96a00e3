import { describe, expect, it } from 'vitest';
import { readConfig } from '../../../src/models/config.ts';
import { readRope } from '../../../src/models/rope.ts';
import { differences } from '../../helpers/tensors.ts';

const rope = (config: Readonly<Record<string, unknown>>, headDim = 8) =>
  readRope(readConfig(config, 'config.json'), { headDim, contextLength: 4096, theta: 10000 });

describe('readRope', () => {
  it.each<[string, Record<string, unknown>, number[]]>([
    ['the default base', {}, [1, 10, 100, 1000]],
    ['rope_theta', { rope_theta: 160000 }, [1, 20, 400, 8000]],
    ['rope_parameters', { rope_parameters: { rope_type: 'default', rope_theta: 160000 } }, [1, 20, 400, 8000]],
    ['no scaling', { rope_scaling: null, rope_parameters: null }, [1, 10, 100, 1000]],
    ['linear', { rope_scaling: { type: 'linear', factor: 4 } }, [4, 40, 400, 4000]],
    ['linear, named anew', { rope_scaling: { rope_type: 'linear', factor: 4 } }, [4, 40, 400, 4000]],
    ['half of the columns', { partial_rotary_factor: 0.5 }, [1, 100]],
    ['half of the columns, in rope_parameters', { rope_parameters: { partial_rotary_factor: 0.5 } }, [1, 100]],
  ])('%s', (_what, config, divisors) => {
    expect(differences(rope(config).divisors, divisors, 1e-12)).toEqual([]);
    expect(rope(config).factor).toBe(1);
  });

  it('llama3 keeps short waves, stretches long ones and blends those between', () => {
    const scaling = { rope_type: 'llama3', factor: 8, low_freq_factor: 1, high_freq_factor: 4, original_max_position_embeddings: 1024 };
    const { divisors } = rope({ rope_scaling: scaling });
    // 1024 / (2 pi 100) is 1.63 turns: 0.21 of the way from 1 to 4.
    const kept = (1024 / (200 * Math.PI) - 1) / 3;
    expect(differences(divisors, [1, 10, 100 / ((1 - kept) / 8 + kept), 8000], 1e-12)).toEqual([]);
  });

  it.each<[string, Record<string, unknown>, number]>([
    ['from the factor', { factor: 4 }, 0.1 * Math.log(4) + 1],
    ['as stated', { factor: 4, attention_factor: 0.5 }, 0.5],
    ['of two scales', { factor: 4, mscale: 2, mscale_all_dim: 1 }, (0.2 * Math.log(4) + 1) / (0.1 * Math.log(4) + 1)],
    ['1 without stretching', { factor: 1 }, 1],
    ['from the contexts', { original_max_position_embeddings: 1024 }, 0.1 * Math.log(4) + 1],
  ])('the factor of yarn is %s', (_what, parameters, factor) => {
    expect(rope({ rope_scaling: { type: 'yarn', ...parameters } }).factor).toBeCloseTo(factor, 12);
  });

  it('yarn stretches from its fast to its slow pair', () => {
    // Pairs that turn 32 times and once in 1024 positions: 0.7 and 2.2, rounded outwards to 0 and 3.
    const { divisors } = rope({ rope_scaling: { type: 'yarn', factor: 4, original_max_position_embeddings: 1024 } });
    const stretched = (divisor: number, share: number): number => divisor / (share / 4 + 1 - share);
    expect(differences(divisors, [1, stretched(10, 1 / 3), stretched(100, 2 / 3), 4000], 1e-12)).toEqual([]);
  });

  it.each(['longrope', 'su'])('%s has short divisors up to the original context, long ones beyond', (type) => {
    const shares = { short_factor: [1, 2, 3, 4], long_factor: [5, 6, 7, 8] };
    const got = rope({ rope_scaling: { type, ...shares }, original_max_position_embeddings: 1024 });
    expect(differences(got.divisors, [1, 20, 300, 4000], 1e-12)).toEqual([]);
    expect(got.long?.originalContext).toBe(1024);
    expect(differences(got.long!.divisors, [5, 60, 700, 8000], 1e-12)).toEqual([]);
    expect(got).toMatchObject({ factor: Math.sqrt(1 + Math.log(4) / Math.log(1024)) });
  });

  it.each<[Record<string, unknown>, RegExp]>([
    [{ rope_scaling: { type: 'dynamic' } }, /one of default, linear, factors, llama3, yarn, longrope, su expected, got "dynamic"/],
    [{ rope_scaling: { type: 'longrope', short_factor: [1, 2] } }, /"rope_scaling\.short_factor": a list of 4 numbers above 0 expected/],
    [{ rope_scaling: { type: 'llama3', factor: 8, low_freq_factor: 4 } }, /"rope_scaling\.high_freq_factor": more than low_freq_factor 4/],
    [{ partial_rotary_factor: 0.4 }, /"partial_rotary_factor": .*even number of the 8 columns of a head expected, got 0\.4/],
    [{ partial_rotary_factor: 2 }, /"partial_rotary_factor"/],
    [{ rope_theta: -1 }, /"rope_theta": a number above 0 expected, got -1/],
  ])('refuses %j', (config, message) => {
    expect(() => rope(config)).toThrow(message);
  });
});
