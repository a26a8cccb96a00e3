/** A model that is larger than the memory that a job may use. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { type JobFolder, jobFolder } from '../helpers/cli-job.ts';
import { jsonLines } from '../helpers/cli.ts';

const BUDGET = 480e6;
const REPOSITORY = path.join(import.meta.dirname, '../..');
const ROWS = 12;

let folder: string;
let model: string;
/** Answers of the job that keeps all weights in memory, and of one that nothing disturbs. */
let wanted: unknown;

const INPUT = Array.from({ length: ROWS }, (_, i) => {
  const body = { model: 'm', prompt: [5 + i, 60, 700, 800 + i], max_tokens: 3, ignore_eos: true, return_token_ids: true };
  return `${JSON.stringify({ custom_id: String(i), method: 'POST', url: '/v1/completions', body })}\n`;
}).join('');

/** Few rows at a time, so that there is something to save and to go on with. */
const flags = (budget: number): string[] =>
  `-i in.jsonl -o out.jsonl -m ${model} --mem ${budget} --kv-type g4 --gpu-batch-size 4 --num-gpu-batches 1`.split(' ');

/** What does not say when it was written. */
const answersIn = (job: JobFolder): unknown =>
  jsonLines(job.read('out.jsonl')).map((line) => {
    const { custom_id: id, response } = line as { custom_id: string; response: { body: { choices: unknown; usage: unknown } } };
    return [id, response.body.choices, response.body.usage];
  });

beforeAll(async () => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'flexllmgen-large-'));
  model = path.join(folder, 'model.gguf');
  const script = path.join(REPOSITORY, 'scripts/make-model.ts');
  execFileSync(process.execPath, ['--import', 'tsx', script, 'opt-125m', 'f16', model, '--layers', '36'], { cwd: REPOSITORY });
  using job = jobFolder({ 'in.jsonl': INPUT });
  const { status, message } = await job.run(flags(2e9));
  if (status !== 0) throw new Error(`the job with all weights in memory ended with ${status}: ${message}`);
  wanted = answersIn(job);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a model that is larger than its memory', () => {
  it('stays within the budget and gives the same answers', async () => {
    using job = jobFolder({ 'in.jsonl': INPUT });
    expect(statSync(model).size).toBeGreaterThan(1.2 * BUDGET);
    const { status, summary } = await job.run(flags(BUDGET));
    expect({ status, rows: summary?.rows.done }).toEqual({ status: 0, rows: ROWS });
    expect(answersIn(job)).toEqual(wanted);
    expect(summary!.peakBytes.cpu).toBeLessThan(BUDGET);
    expect(summary!.peakBytes.cpu).toBeGreaterThan(BUDGET / 2);
  });

  it('goes on where it was, killed twice, once while it reads and once when rows are saved', async () => {
    using job = jobFolder({ 'in.jsonl': INPUT });
    const first = job.start(flags(BUDGET));
    await setTimeout(1200);
    first.child.kill('SIGKILL');
    expect(await first.result).toMatchObject({ signal: 'SIGKILL' });
    const second = await job.run(flags(BUDGET), { env: { FLEXLLMGEN_CRASH_AT: 'journal-synced:2' } });
    expect(second).toMatchObject({ status: null, signal: 'SIGKILL' });
    const last = await job.run(flags(BUDGET));
    expect(last).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS } } });
    expect(last.summary!.rows.reused).toBeGreaterThan(0);
    expect(last.summary!.rows.reused).toBeLessThan(ROWS);
    expect(answersIn(job)).toEqual(wanted);
  });

  it('is refused where not even its largest layers fit, with the numbers', async () => {
    using job = jobFolder({ 'in.jsonl': INPUT });
    const { status, message } = await job.run(flags(250e6));
    expect(status).not.toBe(0);
    expect(message).toMatch(/the model needs \d+ MB, 250 MB may be used; largest: .*weights in passing/);
  });
});
