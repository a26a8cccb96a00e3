/** JSON of an OffloadCase: runs it, and prints what its sweeps took. */
import { setTimeout } from 'node:timers/promises';
import { LLM } from '../src/llm.ts';
import { PAGE_POSITIONS } from '../src/tensor/device.ts';
import { peakMemoryBytes } from '../src/util/machine.ts';
import { runChild } from './child.ts';
import { diskBytesRead } from './disk.ts';
import type { OffloadCase, OffloadRun, OffloadSweep } from './offload-case.ts';
import { promptOf } from './workload.ts';

const one = JSON.parse(process.argv[2]!) as OffloadCase;

/** Until what is read ahead has filled its slots: nothing moves while the rows wait. */
const AHEAD_MS = 2000;

/** Bytes a second of the disk alone, with the rows waiting; by a program of its own, whose memory is not ours. */
async function diskRate(bytes: number): Promise<number> {
  await setTimeout(AHEAD_MS);
  return bytes / (await runChild<number>('read-child.ts', [one.file, 'ring', String(bytes)]));
}

async function main(): Promise<OffloadRun> {
  const { batches = 1, promptTokens, generated, decodeSweeps: most = Infinity } = one;
  const opened = performance.now();
  await using llm = await LLM.load(one.file, {
    gpuBatchSize: one.rows / batches,
    numGpuBatches: batches,
    // Under a budget the block is what is asked: as many rows as the plan has room for.
    ...(one.memoryBytes === undefined && { rows: { count: one.rows, promptTokens, maxTokens: generated } }),
    sharePrefixes: false,
    overlap: one.overlap ?? true,
    ...(one.percent && { percent: one.percent }),
    ...(one.memoryBytes !== undefined && { memoryBytes: one.memoryBytes }),
    ...(one.kvType && { kvType: one.kvType }),
  });
  const rows = Math.min(one.rows, Math.floor(Math.min(...llm.plan.kvPages) / Math.ceil((promptTokens + generated) / PAGE_POSITIONS)));
  const requests = Array.from({ length: rows }, (_, row) => ({
    prompt: promptOf(promptTokens, row),
    params: { maxTokens: generated, ignoreEos: true },
  }));
  // What stays is loaded, and programs have memory.
  await llm.generate([{ prompt: promptOf(4, 1), params: { maxTokens: 1, ignoreEos: true } }]);
  const done: OffloadSweep[] = [];
  const loop = performance.eventLoopUtilization();
  let alone = one.diskAloneBytes === undefined ? undefined : await diskRate(one.diskAloneBytes);
  let [began, bytes] = [performance.now(), diskBytesRead()];
  let last = { prompt: 0, generated: 0 };
  let lanes = {};
  for await (const event of llm.stream(requests)) {
    if (event.type !== 'sweep') continue;
    const [now, read, { tokens }] = [performance.now(), diskBytesRead(), event.stats];
    const before = alone;
    if (one.diskAloneBytes !== undefined) alone = await diskRate(one.diskAloneBytes);
    done.push({
      seconds: (now - began) / 1000,
      diskBytes: read - bytes,
      promptTokens: tokens.promptComputed - last.prompt,
      generatedTokens: tokens.generated - last.generated,
      ...(before !== undefined && { diskAlone: [before, alone!] as const }),
    });
    [began, bytes] = alone === undefined ? [now, read] : [performance.now(), diskBytesRead()];
    last = { prompt: tokens.promptComputed, generated: tokens.generated };
    lanes = Object.fromEntries(event.stats.lanes.map(({ lane, busySeconds }) => [lane, busySeconds]));
    if (done.filter((sweep) => sweep.promptTokens === 0).length >= most) break;
  }
  const { bytes: planned, weights } = llm.plan;
  const totalSeconds = (performance.now() - opened) / 1000;
  return {
    rows,
    totalSeconds,
    sweeps: done,
    lanes,
    loop: performance.eventLoopUtilization(loop).utilization,
    peakBytes: peakMemoryBytes(),
    planned,
    weights,
  };
}

console.log(JSON.stringify(await main()));
