import { execFile } from 'node:child_process';
import { readdirSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { promisify } from 'node:util';
import { describe, expect, it } from 'vitest';

/** What each example must print. An example without an entry fails. */
const EXPECTED: Readonly<Record<string, RegExp>> = {
  '01-generate.ts':
    /^27th of October, 1954 -> 1954-10-27 \(stop\)\n1961\.08\.27 -> 1961-08-27 \(stop\)\n10\/14\/1996 -> 1996-10-14 \(stop\)\n$/,
  '02-stream.ts': /^(\d+: \d+ g\n){8}$/,
  '03-score.ts': /^positive: -0\.\d+\nneutral: -\d+\.\d+\nnegative: -\d+\.\d+\n$/,
  '04-random-weights.ts': /^planned memory: \d+ MiB\ngenerated 64 tokens, \d+ tokens\/s after the prompts\n$/,
};

const folder = new URL('../../examples/', import.meta.url);

describe('examples', () => {
  it.each(readdirSync(folder).filter((name) => name.endsWith('.ts')))('%s runs', async (name) => {
    const { stdout } = await promisify(execFile)(process.execPath, ['--import', 'tsx', fileURLToPath(new URL(name, folder))], {
      cwd: new URL('../..', import.meta.url),
      timeout: 100_000,
    });
    expect(EXPECTED[name]).toBeDefined();
    expect(stdout).toMatch(EXPECTED[name]!);
  });
});
