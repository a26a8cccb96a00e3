import { readFileSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { LLM } from '../../src/llm.ts';
import type { GenerationResult } from '../../src/requests.ts';
import { BUNDLED_MODEL } from '../../src/util/bundled.ts';
import { LOGPROB_TOLERANCE, readFixtureJson } from '../helpers/golden.ts';

interface Row {
  readonly prompt: string;
  readonly ids: readonly number[];
  readonly greedy: readonly number[];
  readonly logprobs: readonly number[];
  readonly answer: string;
  readonly expected: string;
}

const rows = readFixtureJson('tidy-opt-5m/golden.json') as readonly Row[];

/** Right answers of each task, from the table in the model's README; the instruction names the task in prompts. */
function readTable(): Map<string, { right: number; rows: number }> {
  const text = readFileSync(path.join(BUNDLED_MODEL, 'README.md'), 'utf8');
  const lines = text.matchAll(/^\| \w+ \| ([^|]+) \| (\d+) \/ (\d+) \|/gm);
  return new Map([...lines].map(([, instruction, right, all]) => [instruction!, { right: Number(right), rows: Number(all) }]));
}

function countRight(answers: readonly string[]): Map<string, { right: number; rows: number }> {
  const tasks = new Map<string, { right: number; rows: number }>();
  for (const [i, { prompt, expected }] of rows.entries()) {
    const task = /^Task: (.*)$/m.exec(prompt)![1]!;
    const { right, rows: count } = tasks.get(task) ?? { right: 0, rows: 0 };
    tasks.set(task, { right: right + (answers[i]!.trim() === expected ? 1 : 0), rows: count + 1 });
  }
  return tasks;
}

async function generate(kvType: 'f32' | 'f16'): Promise<GenerationResult[]> {
  await using llm = await LLM.load(undefined, { compute: 'f32', kvType, threads: 1 });
  return await llm.generate(
    rows.map(({ prompt }) => prompt),
    { logprobs: 0 },
  );
}

describe('the bundled model', () => {
  const table = readTable();

  it('has a table of 14 tasks, which the goldens match', () => {
    expect([table.size, rows.length]).toEqual([14, 560]);
    expect(countRight(rows.map(({ answer }) => answer))).toEqual(table);
  });

  it('answers every row as the goldens do, with f32 throughout', async () => {
    const results = await generate('f32');
    for (const [i, { ids, greedy, logprobs, answer }] of rows.entries()) {
      const result = results[i]!;
      expect([result.promptTokenIds, result.tokenIds], `row ${i}`).toEqual([ids, greedy]);
      expect(result.text.trim(), `row ${i}`).toBe(answer);
      const errors = logprobs.map((value, at) => Math.abs(result.logprobs![at]!.logprob - value));
      expect(Math.max(...errors), `row ${i}`).toBeLessThanOrEqual(LOGPROB_TOLERANCE);
    }
    expect(countRight(results.map(({ text }) => text))).toEqual(table);
  });

  it('is as accurate with a cache in f16, within a row a task', async () => {
    const tasks = countRight((await generate('f16')).map(({ text }) => text));
    const lost = [...table].map(([task, { right }]) => ({ task, rows: right - tasks.get(task)!.right }));
    expect(lost.filter(({ rows: count }) => Math.abs(count) > 1)).toEqual([]);
    expect([...tasks.keys()]).toEqual([...table.keys()]);
  });
});
