import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { cli, jsonLines } from '../helpers/cli.ts';
import type { Golden } from '../helpers/golden.ts';

const file = fileURLToPath(new URL('../fixtures/gguf/llama-f32.gguf', import.meta.url));
const quantised = fileURLToPath(new URL('../fixtures/gguf/llama-q8_0.gguf', import.meta.url));
const golden = JSON.parse(readFileSync(file.replace('.gguf', '.golden.json'), 'utf8')) as Golden;

describe('a GGUF file', () => {
  it('answers prompts, and says on standard error that it knows conversations', async () => {
    const { text, completion } = golden.texts![0]!;
    const flags = ['--max-tokens', '24', '--ignore-eos', '--compute', 'f32', '--json'];
    const { status, stdout, stderr } = await cli(['generate', '-m', file, ...flags, text]);
    expect({ status, stderr }).toEqual({ status: 0, stderr: expect.stringContaining('--chat') as string });
    expect(jsonLines(stdout)).toMatchObject([{ text: completion }]);
  });

  it('takes what a user says through its chat template', async () => {
    const flags = ['--max-tokens', '2', '--ignore-eos', '--json', '--system', 'You are terse.'];
    const { status, stdout, stderr } = await cli(['generate', '-m', file, ...flags, 'What is 2 + 2?']);
    expect({ status, stderr }).toEqual({ status: 0, stderr: '' });
    const [{ promptTokens }] = jsonLines(stdout) as [{ promptTokens: number }];
    expect(promptTokens).toBeGreaterThan(30);
  });

  it('is described by inspect', async () => {
    const { status, stdout } = await cli(['inspect', quantised, '--json']);
    expect(status).toBe(0);
    expect(jsonLines(stdout)).toMatchObject([
      {
        family: 'llama',
        layers: 2,
        contextLength: 256,
        vocabularySize: 640,
        tokenizer: true,
        chatTemplate: true,
        types: [{ type: 'q8_0' }, { type: 'f32' }],
      },
    ]);
    const text = await cli(['inspect', quantised]);
    expect(text.stdout).toMatch(/q8_0 +16 +165 kB/);
    expect(text.stdout).toMatch(/yes, with a chat template/);
    expect(text.stdout).toMatch(/64 .* runs here/);
  });

  it('that is none is refused by name', async () => {
    const { status, stderr } = await cli(['inspect', fileURLToPath(new URL('../../package.json', import.meta.url))]);
    expect({ status: status === 0, stderr }).toEqual({ status: false, stderr: expect.stringContaining('package.json') as string });
  });
});
