import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import { join } from 'node:path';
import { cellText, csvRecords } from '../batch/csv-records.ts';
import { fileChunks } from '../batch/file-chunks.ts';
import type { JobSummary } from '../batch/types.ts';
import { internalError } from '../util/errors.ts';
import { BUNDLED_TABLE } from '../util/bundled.ts';
import { EXIT } from './exit-code.ts';
import type { DemoOptions } from './program.ts';
import { stderrProgress, type Progress } from './progress.ts';
import { renderTable } from './render.ts';
import { renderSummary, runTable } from './run.ts';
import { scoreTasks, type AnsweredRow, type TaskScore } from './score.ts';

const PROMPT = 'Task: {{instruction}}\nInput: {{input}}\nOutput:';
const ANSWER_COLUMN = 'output';
/** The bundled model ends its answers itself; others were trained for other things and talk on. */
const OTHER_MODEL = { maxTokens: 32, stop: ['\n'] } as const;

/** `flexllmgen demo`, which is `npm start`. Writes nowhere but into a fresh temporary folder. */
export async function demo(options: DemoOptions): Promise<number> {
  const folder = mkdtempSync(join(os.tmpdir(), 'flexllmgen-'));
  const progress = stderrProgress(options);
  let status: number = EXIT.failed;
  try {
    status = await clean(join(folder, 'messy.clean.csv'), options, progress);
    return status;
  } finally {
    progress.end();
    // Nobody could go on with it: the next demo has another folder.
    if (status === EXIT.failed || status === EXIT.interrupted) rmSync(folder, { recursive: true, force: true });
  }
}

async function clean(output: string, options: DemoOptions, progress: Progress): Promise<number> {
  const talks = !options.json && !options.quiet;
  if (talks) process.stdout.write(`Cleaning ${BUNDLED_TABLE} with ${options.model ?? 'the bundled model tidy-opt-5m'}.\n\n`);
  const job = {
    ...options,
    ...(options.model !== undefined && OTHER_MODEL),
    input: BUNDLED_TABLE,
    output,
    prompt: PROMPT,
    column: ANSWER_COLUMN,
  };
  const { summary, exitCode } = await runTable(job, progress);
  if (exitCode === EXIT.interrupted) return exitCode;
  progress.end();
  const scores = scoreTasks(await readAnswers(output));
  if (talks) process.stdout.write(renderDemo(scores, summary, output));
  if (options.json) process.stdout.write(`${JSON.stringify({ ...summary, accuracy: accuracyOf(scores), output })}\n`);
  return exitCode;
}

export function renderDemo(scores: readonly TaskScore[], summary: JobSummary, output: string): string {
  const looks = scores.map(({ task, example }) => [
    task,
    example.input,
    example.answer,
    example.answer === example.expected ? 'right' : 'wrong',
  ]);
  const titles = [{ title: 'task' }, { title: 'before', maxWidth: 44 }, { title: 'after', maxWidth: 36 }, { title: '' }];
  const before = renderTable(titles, looks);
  const right = scores.reduce((sum, score) => sum + score.right, 0);
  const rows = scores.reduce((sum, score) => sum + score.rows, 0);
  const counts = [...scores, { task: 'all', right, rows }].map((score) => [
    score.task,
    `${score.right} / ${score.rows}`,
    percent(score.right, score.rows),
  ]);
  const accuracy = renderTable([{ title: 'task' }, { title: 'exactly right', align: 'right' }, { title: '', align: 'right' }], counts);
  return `The first row of each task:\n\n${before}\n${renderSummary(summary)}\nAnswers compared with the labels:\n\n${accuracy}\nWritten to ${output}\n`;
}

function accuracyOf(scores: readonly TaskScore[]): Record<string, { readonly right: number; readonly rows: number }> {
  return Object.fromEntries(scores.map(({ task, right, rows }) => [task, { right, rows }]));
}

function percent(part: number, whole: number): string {
  return whole > 0 ? `${((100 * part) / whole).toFixed(1)} %` : '-';
}

/** Reads the finished table back. An error row has an empty answer. */
async function readAnswers(path: string): Promise<AnsweredRow[]> {
  const rows: AnsweredRow[] = [];
  let names: string[] | undefined;
  for await (const { cells } of csvRecords(fileChunks(path).chunks)) {
    const texts = cells.map((cell) => cellText(cell).text);
    if (names === undefined) {
      names = texts;
      continue;
    }
    const header = names;
    const at = (name: string): string => texts[header.indexOf(name)] ?? '';
    rows.push({ task: at('task'), input: at('input'), expected: at('expected'), answer: at(ANSWER_COLUMN).trim() });
  }
  if (!names?.includes(ANSWER_COLUMN)) throw internalError(`${path} has no column ${ANSWER_COLUMN}`);
  return rows;
}
