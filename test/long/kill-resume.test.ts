/** A job with a model of four times the memory that it may have for weights, killed ten times. */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync, statSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { setTimeout } from 'node:timers/promises';
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { jobFolder, type JobFolder, jobResult, type JobResult } from '../helpers/cli-job.ts';
import { type MemoryLimit, limitMemory, peakResidentBytes } from '../helpers/memory-limit.ts';
import { randomNumbers } from '../helpers/tensors.ts';

const KILLS = 10;
const ROWS = 64;
const SEED = 11;
/** A job is killed after so many sweeps at most, of the three that its first rows take, and some milliseconds more. */
const MOST_SWEEPS = 4;
const MOST_MS = 1500;
/** What Node, our program and a job's rows take at most: what `--mem` may count beside the model. */
const PROGRAM_BYTES = 150e6;
const MAX_JOB_MS = 600_000;

const REPOSITORY = path.join(import.meta.dirname, '../..');

let folder: string;
let model: string;
let budget: number;

const INPUT = Array.from({ length: ROWS }, (_, i) => {
  const prompt = Array.from({ length: 3 + (i % 9) }, (__, n) => 5 + ((i * 7919 + n * 104_729) % 50_000));
  const body = { model: 'm', prompt, max_tokens: 3, ignore_eos: true, return_token_ids: true };
  return `${JSON.stringify({ custom_id: String(i), method: 'POST', url: '/v1/completions', body })}\n`;
}).join('');

/** Few rows at a time, so that there is something to save and to go on with. */
const flags = (): string[] =>
  `-i in.jsonl -o out.jsonl -m ${model} --mem ${budget} --kv-type g4 --gpu-batch-size 8 --num-gpu-batches 1 --plan-out plan.json`.split(
    ' ',
  );

/** All but the time at which a row was written. */
const outputOf = (job: JobFolder): string => job.read('out.jsonl').replace(/"created":\d+/g, '"created":0');

/** What the job says after so many sweeps; -1: at once. It tells of its rows before the first one, too. */
const afterSweeps = (sweeps: number): RegExp => new RegExp(`("phase":"generating"[^]*){${sweeps + 1}}`);

/** Starts the job; with a limit, the system ends it when it takes more than it may. */
function start(job: JobFolder, limit: MemoryLimit | undefined) {
  const running = job.start(flags(), { timeoutMs: MAX_JOB_MS });
  limit?.add(running.child.pid!);
  return running;
}

const linesOfJournal = (job: JobFolder): number => (job.has('out.jsonl.journal') ? job.read('out.jsonl.journal').split('\n').length : 0);

beforeAll(() => {
  folder = mkdtempSync(path.join(os.tmpdir(), 'flexllmgen-long-'));
  model = path.join(folder, 'model.gguf');
  const script = path.join(REPOSITORY, 'scripts/make-model.ts');
  execFileSync(process.execPath, ['--import', 'tsx', script, 'opt-1.3b', 'f16', model], { cwd: REPOSITORY });
  budget = Math.round(statSync(model).size / 4 + PROGRAM_BYTES);
});

afterAll(() => rmSync(folder, { recursive: true, force: true }));

describe('a job with a quarter of its weights in memory', () => {
  it(`that is killed ${KILLS} times gives the same file as one that nothing disturbs`, async () => {
    using limit = limitMemory(budget);
    using undisturbed = jobFolder({ 'in.jsonl': INPUT });
    const began = performance.now();
    const wanted = jobResult(await start(undisturbed, limit).result);
    const seconds = (performance.now() - began) / 1000;
    expect(wanted).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS } } });
    expectPeak(wanted);

    using job = jobFolder({ 'in.jsonl': INPUT });
    const moments = randomNumbers(SEED, 2 * KILLS).map((x) => (x + 1) / 2);
    const saved: number[] = [];
    for (let kill = 0; kill < KILLS; kill++) {
      const running = start(job, limit);
      await running.stderrMatches(afterSweeps(Math.floor(moments[2 * kill]! * (MOST_SWEEPS + 2)) - 1));
      await setTimeout(moments[2 * kill + 1]! * MOST_MS);
      expect(peakResidentBytes(running.child.pid!) ?? 0).toBeLessThan(budget);
      running.child.kill('SIGKILL');
      expect(await running.result).toMatchObject({ status: null, signal: 'SIGKILL' });
      saved.push(linesOfJournal(job));
    }
    // Some were killed before they had saved anything new.
    expect(new Set(saved).size).toBeGreaterThan(2);
    const last = jobResult(await start(job, limit).result);
    expect(last).toMatchObject({ status: 0, summary: { rows: { total: ROWS, done: ROWS } } });
    expect(last.summary!.rows.reused).toBeGreaterThan(0);
    expectPeak(last);
    expect(outputOf(job)).toBe(outputOf(undisturbed));

    const { bytes } = JSON.parse(undisturbed.read('plan.json')) as { bytes: { total: number } };
    console.log({
      seconds,
      budget,
      planned: bytes.total,
      peak: wanted.summary!.peakBytes.cpu,
      group: limit?.peakBytes(),
      weights: statSync(model).size,
      saved,
      reused: last.summary!.rows.reused,
    });
  });
});

function expectPeak({ summary }: JobResult): void {
  expect(summary!.peakBytes.cpu).toBeLessThan(budget);
  expect(summary!.peakBytes.cpu).toBeGreaterThan(budget / 2);
}
