import { resolve } from 'node:path';
import { readTrace } from '../profile/chrome-trace.ts';
import { summarizeTrace, type TraceSummary } from '../profile/trace-summary.ts';
import { timelineSvg } from '../profile/timeline-svg.ts';
import { replaceFile } from '../util/durable-file.ts';
import { UsageError } from '../util/errors.ts';
import { busiestLane } from '../util/lanes.ts';
import { formatBytes, formatCount, formatSeconds } from '../util/units.ts';
import { PROCESS_OUTPUT, type CliOutput } from './output.ts';
import { renderFacts, renderTable } from './render.ts';

export interface TraceCliOptions {
  readonly svg?: string;
  readonly json?: boolean;
}

/** `flexllmgen trace` */
export async function trace(file: string, { svg, json }: TraceCliOptions, output: CliOutput = PROCESS_OUTPUT): Promise<number> {
  if (svg !== undefined && resolve(svg) === resolve(file)) throw new UsageError(`--svg ${svg}: is the trace itself; choose another name`);
  const content = await readTrace(file);
  const { droppedEvents } = content;
  const summary = summarizeTrace(content);
  if (svg !== undefined) await replaceFile(svg, [timelineSvg(content)]);
  const seconds = (summary.endMs - summary.startMs) / 1000;
  if (json) {
    const report = { file, seconds, droppedEvents, lanes: summary.lanes, bottleneck: busiestLane(summary.lanes) ?? null };
    output.out(`${JSON.stringify({ ...report, ...(svg !== undefined && { svg }) })}\n`);
  } else if (svg !== undefined) output.out(`${svg}: timeline of ${formatSeconds(seconds)}\n`);
  else output.out(renderTrace(summary, droppedEvents));
  return 0;
}

export function renderTrace({ startMs, endMs, lanes }: TraceSummary, droppedEvents: number): string {
  const seconds = (endMs - startMs) / 1000;
  const right = ['busy', 'time', 'bytes', 'rate', 'pieces'].map((title) => ({ title, align: 'right' as const }));
  const rows = lanes.map(({ lane, busySeconds, bytes, pieces }) => [
    lane,
    seconds > 0 ? `${((100 * busySeconds) / seconds).toFixed(1)} %` : '-',
    formatSeconds(busySeconds),
    bytes > 0 ? formatBytes(bytes) : '-',
    bytes > 0 && busySeconds > 0 ? `${formatBytes(bytes / busySeconds)}/s` : '-',
    formatCount(pieces),
  ]);
  const facts: [string, string][] = [
    ['recorded', formatSeconds(seconds)],
    ['bottleneck', busiestLane(lanes) ?? 'none: nothing was recorded'],
  ];
  if (droppedEvents > 0) facts.push(['not kept', `${formatCount(droppedEvents)} older pieces`]);
  return `${renderTable([{ title: 'lane' }, ...right], rows)}\n${renderFacts(facts)}`;
}
