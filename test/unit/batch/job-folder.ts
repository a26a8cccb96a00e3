import { mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { runJob } from '../../../src/batch/job.ts';
import type { JobOptions, JobOutcome } from '../../../src/batch/types.ts';
import { type FakeGenerator, type FakeOptions, fakeGenerator } from '../../helpers/fake-generator.ts';

/** A folder for one test, with a job's files in it. */
export interface JobFolder extends AsyncDisposable {
  readonly path: (name: string) => string;
  readonly write: (name: string, content: string | Buffer) => Promise<string>;
  readonly read: (name: string) => Promise<string>;
  readonly names: () => Promise<string[]>;
  /** Runs a job from `in.csv` to `out.csv` with a fake model, unless told otherwise. */
  readonly run: (options?: Partial<JobOptions>, fake?: FakeOptions) => Promise<JobRun>;
}

export interface JobRun extends JobOutcome {
  /** Undefined when the model was not needed. */
  readonly generator: FakeGenerator | undefined;
}

export async function jobFolder(): Promise<JobFolder> {
  const root = await mkdtemp(join(tmpdir(), 'batch job '));
  const path = (name: string): string => join(root, name);
  return {
    path,
    write: async (name, content) => {
      await writeFile(path(name), content);
      return path(name);
    },
    read: (name) => readFile(path(name), 'utf8'),
    names: async () => (await readdir(root)).toSorted(),
    run: async (options = {}, fake = {}) => {
      let generator: FakeGenerator | undefined;
      const defaults = { input: path('in.csv'), output: path('out.csv'), prompt: 'Input: {{text}}', generator: { model: 'fake' } };
      const outcome = await runJob({ ...defaults, ...options }, async () => (generator = fakeGenerator(fake)));
      return { ...outcome, generator };
    },
    [Symbol.asyncDispose]: () => rm(root, { recursive: true, force: true }),
  };
}

/** A table with the columns id and text. */
export function table(rows: number, text: (row: number) => string = (row) => `text ${row}`): string {
  return `id,text\n${Array.from({ length: rows }, (_, row) => `${row},${text(row)}\n`).join('')}`;
}
