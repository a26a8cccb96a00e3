/** Files of conversations, and jobs over them with a fake model. */
import type { JobOptions } from '../../../src/batch/types.ts';
import type { FakeOptions } from '../../helpers/fake-generator.ts';
import { jobFolder, type JobRun } from './job-folder.ts';

export type Line = Record<string, unknown> & {
  readonly response: { readonly status_code: number; readonly body: { choices: Record<string, unknown>[]; error: { param: string } } };
};

export interface JsonlRun extends JobRun {
  readonly lines: Line[];
}

export async function runJsonl(input: string, options: Partial<JobOptions> = {}, fake: FakeOptions = {}): Promise<JsonlRun> {
  await using folder = await jobFolder();
  const paths = { input: await folder.write('in.jsonl', input), output: folder.path('out.jsonl'), prompt: undefined } as object;
  const run = await folder.run({ ...paths, ...options }, fake);
  const lines = (await folder.read('out.jsonl')).trimEnd().split('\n');
  return { ...run, lines: lines.map((line) => JSON.parse(line) as Line) };
}

export const HI: readonly { readonly role: string; readonly content: string }[] = [{ role: 'user', content: 'Hi' }];
export const chatLine = (body: object, id = 'a'): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/chat/completions', body: { model: 'm', messages: HI, ...body } })}\n`;
export const completionLine = (id: string): string =>
  `${JSON.stringify({ custom_id: id, method: 'POST', url: '/v1/completions', body: { prompt: 'Hi' } })}\n`;
export const plainLines = (...rows: readonly object[]): string => rows.map((row) => `${JSON.stringify(row)}\n`).join('');
export const prompts = ({ generator }: JobRun): unknown[] => generator!.requests.map(({ prompt }) => prompt);
