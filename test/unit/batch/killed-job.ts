import type { Readable } from 'node:stream';
import type { JobOptions } from '../../../src/batch/types.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';

/** The job that is killed, the same in every process. Its completions depend on the row's place, and one row fails. */
export function killedOptions(input: string, output: string, stdin: Readable): JobOptions {
  return { input, output, format: 'csv', stdin, prompt: '{{text}}', params: { temperature: 1 }, generator: { model: 'fake' } };
}

export const KILLED_FAKE: FakeOptions = { failing: 'text 7' };
