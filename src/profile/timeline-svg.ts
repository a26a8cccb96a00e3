/** A picture of a trace for people: a bar row per lane over a time axis. */
import { busiestLane, type LaneEvent, type LaneName, type LaneTotals } from '../util/lanes.ts';
import { formatBytes, formatCount, formatRate, formatSeconds } from '../util/units.ts';
import type { Trace } from './chrome-trace.ts';
import { assignRows, byLane } from './lane-rows.ts';
import { summarizeTrace } from './trace-summary.ts';

/** Sizes in pixels. */
const WIDTH = 1200;
const LEFT = 100;
const RIGHT = 80;
const TOP = 46;
const LANE_HEIGHT = 36;
const BAR_HEIGHT = 24;
const BOTTOM = 34;
const PLOT = WIDTH - LEFT - RIGHT;
/** Bars of a lane begin at least this far apart, times its rows: 510 to a lane. With titles of 40 escaped characters all lanes stay below 1 MB. */
const LEAST_STEP = 2;
const LEAST_WIDTH = 0.75;
/** Overlapping pieces of a lane share its height; more rows would be too thin to see. */
const MOST_ROWS = 4;
/** Characters in a title. */
const TITLE_NAME = 40;
const MOST_TICKS = 12;

/** All of them, and the grey, have a contrast of at least 3 with white and with black. */
const COLOURS: Readonly<Record<LaneName, string>> = {
  'disk read': '#d0700a',
  upload: '#8b5cf6',
  compute: '#2f81f7',
  download: '#db4a96',
  'disk write': '#1f9d55',
};
const GREY = '#737c86';

/** Pieces too close to each other to be seen singly. */
interface Bar {
  readonly name: string;
  readonly startMs: number;
  endMs: number;
  busyMs: number;
  bytes: number;
  pieces: number;
}

/** From milliseconds to pixels. */
interface Scale {
  readonly startMs: number;
  readonly endMs: number;
  readonly x: (ms: number) => number;
}

/** One SVG document, below 1 MB whatever the trace. */
export function timelineSvg(trace: Trace): string {
  const { startMs, endMs: lastMs, lanes } = summarizeTrace(trace);
  const endMs = Math.max(lastMs, startMs + 0.001);
  const scale: Scale = { startMs, endMs, x: (ms) => LEFT + ((ms - startMs) / (endMs - startMs)) * PLOT };
  const bottom = TOP + LANE_HEIGHT * Math.max(1, lanes.length);
  const height = bottom + BOTTOM;
  const grouped = byLane(trace.events);
  return [
    `<svg xmlns="http://www.w3.org/2000/svg" width="${WIDTH}" height="${height}" viewBox="0 0 ${WIDTH} ${height}" font-family="system-ui, sans-serif" font-size="13" fill="${GREY}">`,
    `<text x="${LEFT}" y="22" font-size="15">${escapeText(heading(trace, lanes, endMs - startMs))}</text>`,
    ...axis(scale, bottom),
    ...lanes.map((totals, index) => laneRow(totals, grouped.get(totals.lane) ?? [], TOP + index * LANE_HEIGHT, scale)),
    '</svg>\n',
  ].join('\n');
}

function heading({ events, droppedEvents }: Trace, lanes: readonly LaneTotals[], spanMs: number): string {
  if (events.length === 0) return 'nothing was recorded';
  const parts = [`${formatSeconds(spanMs / 1000)}, ${formatCount(events.length)} pieces`];
  const busiest = busiestLane(lanes);
  if (busiest !== undefined) parts.push(`bottleneck: ${busiest}`);
  if (droppedEvents > 0) parts.push(`${formatCount(droppedEvents)} older ones not kept`);
  return parts.join('; ');
}

function axis(scale: Scale, bottom: number): string[] {
  const { ticks, decimals } = ticksOf(scale.startMs / 1000, scale.endMs / 1000);
  return ticks.map((seconds) => {
    const x = round(scale.x(seconds * 1000));
    const line = `<line x1="${x}" y1="${TOP - 8}" x2="${x}" y2="${bottom}" stroke="${GREY}" stroke-opacity=".35"/>`;
    return `${line}<text x="${x}" y="${bottom + 18}" text-anchor="middle">${seconds.toFixed(decimals)} s</text>`;
  });
}

/** Round numbers of seconds in [start, end], 4 to MOST_TICKS of them. */
export function ticksOf(start: number, end: number): { readonly ticks: readonly number[]; readonly decimals: number } {
  const least = (end - start) / (MOST_TICKS - 1);
  const power = Math.floor(Math.log10(least));
  const factor = [1, 2, 5, 10].find((candidate) => candidate * 10 ** power >= least) ?? 10;
  const step = factor * 10 ** power;
  const first = Math.ceil(start / step);
  const count = Math.min(MOST_TICKS, Math.floor(end / step) - first + 1);
  const ticks = Array.from({ length: count }, (_, i) => (first + i) * step);
  return { ticks, decimals: Math.max(0, -(factor === 10 ? power + 1 : power)) };
}

function laneRow({ lane, busySeconds }: LaneTotals, sorted: readonly LaneEvent[], top: number, scale: Scale): string {
  const middle = top + BAR_HEIGHT / 2 + 4.5;
  const percent = Math.round((100_000 * busySeconds) / (scale.endMs - scale.startMs));
  const rows = assignRows(sorted, MOST_ROWS);
  const height = BAR_HEIGHT / rows.length;
  const leastMs = ((scale.endMs - scale.startMs) * LEAST_STEP * rows.length) / PLOT;
  const bars = rows.flatMap((row, index) =>
    mergeTiny(row, leastMs).map((bar) => barRect(bar, { y: top + index * height, height: rows.length > 1 ? height - 0.5 : height }, scale)),
  );
  return [
    `<text x="${LEFT - 10}" y="${middle}" text-anchor="end">${lane}</text>`,
    `<rect x="${LEFT}" y="${top}" width="${PLOT}" height="${BAR_HEIGHT}" fill-opacity=".12"/>`,
    `<g fill="${COLOURS[lane]}">`,
    ...bars,
    '</g>',
    `<text x="${LEFT + PLOT + 10}" y="${middle}">${percent} %</text>`,
  ].join('\n');
}

/** Bars whose beginnings are at least `leastMs` apart; what begins closer to a bar becomes part of it. */
function mergeTiny(sorted: readonly LaneEvent[], leastMs: number): Bar[] {
  const bars: Bar[] = [];
  for (const { name, bytes, startMs, endMs } of sorted) {
    const last = bars.at(-1);
    if (last === undefined || startMs - last.startMs >= leastMs) {
      bars.push({ name, startMs, endMs, busyMs: endMs - startMs, bytes, pieces: 1 });
      continue;
    }
    last.busyMs += Math.max(0, endMs - Math.max(startMs, last.endMs));
    last.endMs = Math.max(last.endMs, endMs);
    last.bytes += bytes;
    last.pieces++;
  }
  return bars;
}

/** Paler where pieces that are drawn as one leave gaps. */
function barRect(bar: Bar, { y, height }: { y: number; height: number }, scale: Scale): string {
  const x = scale.x(bar.startMs);
  const width = scale.x(bar.endMs) - x;
  // A gap that the eye needs where one piece follows the other at once.
  const drawn = Math.max(LEAST_WIDTH, width > 4 ? width - 0.6 : width);
  const share = bar.endMs > bar.startMs ? bar.busyMs / (bar.endMs - bar.startMs) : 1;
  const pale = share < 0.95 ? ` fill-opacity="${Math.max(0.2, share).toFixed(2)}"` : '';
  const place = `x="${round(x)}" y="${round(y)}" width="${round(drawn)}" height="${round(height)}"`;
  return `<rect ${place}${pale}><title>${escapeText(titleOf(bar))}</title></rect>`;
}

function titleOf({ name, bytes, busyMs, pieces }: Bar): string {
  const characters = Array.from(name);
  const short = characters.length <= TITLE_NAME ? name : `${characters.slice(0, TITLE_NAME - 1).join('')}…`;
  const parts = [pieces === 1 ? short : `${short} and ${formatCount(pieces - 1)} more`];
  if (bytes > 0) parts.push(formatBytes(bytes));
  parts.push(formatDuration(busyMs));
  if (bytes > 0 && busyMs > 0) parts.push(`${formatBytes((1000 * bytes) / busyMs)}/s`);
  return parts.join(', ');
}

function formatDuration(ms: number): string {
  if (ms >= 1000) return formatSeconds(ms / 1000);
  return ms >= 1 ? `${formatRate(ms)} ms` : `${formatRate(1000 * ms)} µs`;
}

/** XML allows no control characters, not even as references, nor halves of surrogate pairs. */
function escapeText(text: string): string {
  return text
    .replaceAll(/[\p{Cc}\p{Cs}\uFFFE\uFFFF]/gu, '\uFFFD')
    .replaceAll('&', '&amp;')
    .replaceAll('<', '&lt;')
    .replaceAll('>', '&gt;')
    .replaceAll('"', '&quot;');
}

const round = (pixels: number): number => Math.round(pixels * 100) / 100;
