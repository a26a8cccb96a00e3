import type { Readable } from 'node:stream';
import type { JobOptions } from '../../../src/batch/types.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';

/**
 * The job that is killed, the same in every process: a table with a prompt, or conversations where the input is JSONL. Its completions
 * depend on the row's place, and one row fails.
 */
export function killedOptions(input: string, output: string, stdin: Readable): JobOptions {
  const own = input.endsWith('.jsonl')
    ? ({ format: 'jsonl', system: 'Be brief about {{id}}.' } as const)
    : ({ format: 'csv', prompt: '{{text}}' } as const);
  return { input, output, stdin, ...own, params: { temperature: 1 }, generator: { model: 'fake' } };
}

export const KILLED_FAKE: FakeOptions = { failing: 'text 7' };
