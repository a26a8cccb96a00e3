import { statSync } from 'node:fs';
import { expect, it } from 'vitest';
import { Journal } from '../../../src/batch/journal.ts';
import { JOURNAL_KIND, JOURNAL_VERSION, type JournalHeader } from '../../../src/batch/journal-lines.ts';
import type { RowOutcome } from '../../../src/batch/rows.ts';
import { jobFolder } from './job-folder.ts';

const HEADER: JournalHeader = {
  journal: JOURNAL_KIND,
  version: JOURNAL_VERSION,
  created: 1,
  settings: {},
  generator: {},
  mayReplaceOutput: false,
};
const outcome = (letters: number): RowOutcome => ({
  completion: { text: 'x'.repeat(letters), finishReason: 'stop', promptTokens: 1, completionTokens: 1 },
});

it('waits for the disk as soon as more than a MiB is waiting, not before', async () => {
  await using folder = await jobFolder();
  await using journal = await Journal.create(folder.path('journal'), HEADER);
  const begun = statSync(journal.path).size;
  await journal.append(0, 1n, outcome(600_000));
  expect([journal.saved.done, statSync(journal.path).size]).toEqual([0, begun]);
  await journal.append(1, 2n, outcome(600_000));
  expect(journal.saved.done).toBe(2);
  expect(statSync(journal.path).size).toBeGreaterThan(1_200_000);
  await journal.append(2, 3n, { problem: { message: 'no', code: 'x' } });
  expect(journal.saved).toEqual({ done: 2, failed: 0 });
  await journal.settle();
  expect(journal.saved).toEqual({ done: 2, failed: 1 });
});
