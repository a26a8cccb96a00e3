import { describe, expect, it } from 'vitest';
import { parseBenchArguments } from '../../../bench/arguments.ts';
import { UsageError } from '../../../src/util/errors.ts';

const parse = (line: string) => parseBenchArguments(line === '' ? [] : line.split(' '), ['throughput', 'model', 'peers', 'loading']);

describe('arguments of the benchmarks', () => {
  it.each([
    ['throughput', { name: 'throughput', json: false, options: { rounds: 3 } }],
    [
      'throughput --json --rounds 1 --model tidy-opt-5m --model opt-1.3b --block 1 --block 64 --dtype q4 --type q4_k --type kv-g4',
      {
        name: 'throughput',
        json: true,
        options: { rounds: 1, models: ['tidy-opt-5m', 'opt-1.3b'], blocks: [1, 64], dtype: 'q4', types: ['q4_k', 'kv-g4'] },
      },
    ],
    ['peers --model llama-7b --model a.gguf', { name: 'peers', json: false, options: { rounds: 3, models: ['llama-7b', 'a.gguf'] } }],
    ['loading --model qwen3-4b', { name: 'loading', json: false, options: { rounds: 3, models: ['qwen3-4b'] } }],
    ['model --model opt-1.3b --model b.gguf', { name: 'model', json: false, options: { rounds: 3, models: ['opt-1.3b', 'b.gguf'] } }],
  ])('%s', (line, wanted) => {
    expect(parse(line)).toEqual(wanted);
  });

  it.each([
    ['', 'no such benchmark'],
    ['speed', 'speed: there is no such benchmark'],
    ['throughput speed', 'one benchmark at a time'],
    ['throughput --rounds 0', '--rounds 0: a positive integer expected'],
    ['throughput --block 0', '--block 0: a positive integer expected'],
    ['throughput --block 8 --block many', '--block many: a positive integer expected'],
    ['throughput --block 1.5', '--block 1.5: a positive integer expected'],
    ['throughput --dtype q3', '--dtype q3: one of auto, f32, f16, bf16, q8, q6, q5, q4 expected'],
    ['throughput --type q4', '--type q4: one of f32, f16, bf16, q8_0, q6_k'],
    ['throughput --model opt-1t', 'known are opt-125m'],
    ['throughput --model llama-7b', 'tidy-opt-5m or a published shape expected; known are opt-125m'],
    ['throughput --model a.gguf', 'tidy-opt-5m or a published shape expected'],
    ['loading --model a.gguf', 'a published shape expected'],
    ['peers --model opt-6.7b', 'a GGUF file or a shape that llama.cpp runs expected; known are llama-7b, llama-3-8b, qwen3-4b'],
    ['throughput --blocks 8', "Unknown option '--blocks'"],
  ])('refuses: %s', (line, message) => {
    expect(() => parse(line)).toThrow(UsageError);
    expect(() => parse(line)).toThrow(message);
  });
});
