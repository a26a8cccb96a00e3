/** Events of lanes as a file in the JSON trace format of Chrome, which ui.perfetto.dev opens, and back. */
import { type JsonObject, isJsonObject, readJsonObject } from '../formats/json-file.ts';
import { replaceFile } from '../util/durable-file.ts';
import { FormatError } from '../util/errors.ts';
import { type LaneEvent, type LaneLog, LANES, MAX_LANE_EVENTS } from '../util/lanes.ts';
import { assignRows, byLane } from './lane-rows.ts';
import { checkTracePlace, TRACE_BEGIN, TRACE_WRITER } from './trace-place.ts';

export interface Trace {
  readonly events: readonly LaneEvent[];
  /** Older ones that were not kept. */
  readonly droppedEvents: number;
}

/** An event with a name of full length takes about 220 bytes. */
export const MAX_TRACE_BYTES = 64 << 20;
/** What the log keeps, and the names of rows. */
export const MAX_TRACE_ENTRIES: number = 2 * MAX_LANE_EVENTS;
/** Characters of an event's name. Names of layers and tensors have up to 60. */
export const MAX_EVENT_NAME = 100;

const PROCESS_ID = 1;
/** Thread ids of a lane's rows are consecutive, and no lane reaches those of the next. */
const IDS_PER_LANE = 10_000;

/** Writes the events that the log has kept, whole or not at all. @throws {UsageError} when another file is there, {DiskFullError} */
export async function writeTrace(path: string, log: Pick<LaneLog, 'events' | 'droppedEvents'>): Promise<void> {
  await checkTracePlace(path);
  await replaceFile(path, traceText(log));
}

function* traceText(log: Pick<LaneLog, 'events' | 'droppedEvents'>): Generator<string, void, void> {
  yield `${TRACE_BEGIN},"droppedEvents":${log.droppedEvents}},"traceEvents":[\n`;
  yield JSON.stringify({ name: 'process_name', ph: 'M', pid: PROCESS_ID, args: { name: 'flexllmgen' } });
  for (const [lane, events] of byLane(log.events().map(rounded))) {
    for (const [index, row] of assignRows(events).entries()) {
      const tid = LANES.indexOf(lane) * IDS_PER_LANE + index + 1;
      const thread = { ph: 'M', pid: PROCESS_ID, tid };
      yield `,\n${JSON.stringify({ ...thread, name: 'thread_name', args: { name: index === 0 ? lane : `${lane} ${index + 1}` } })}`;
      yield `,\n${JSON.stringify({ ...thread, name: 'thread_sort_index', args: { sort_index: tid } })}`;
      for (const event of row) yield `,\n${eventText(event, tid)}`;
    }
  }
  yield '\n]}\n';
}

const microseconds = (ms: number): number => Math.round(ms * 1000);

/** To whole microseconds, as the file has them: events that follow each other must not overlap by a rounding error. */
const rounded = (event: LaneEvent): LaneEvent => ({
  ...event,
  startMs: microseconds(event.startMs) / 1000,
  endMs: microseconds(event.endMs) / 1000,
});

function eventText({ lane, name, bytes, startMs, endMs }: LaneEvent, tid: number): string {
  const ts = microseconds(startMs);
  const short = Array.from(name).slice(0, MAX_EVENT_NAME).join('');
  return JSON.stringify({ name: short, cat: lane, ph: 'X', ts, dur: microseconds(endMs) - ts, pid: PROCESS_ID, tid, args: { bytes } });
}

/** Reads what `writeTrace` wrote. @throws {FormatError} naming the file and what was expected */
export async function readTrace(path: string): Promise<Trace> {
  const { otherData, traceEvents } = await readJsonObject(path, MAX_TRACE_BYTES);
  if (!isJsonObject(otherData) || otherData['writer'] !== TRACE_WRITER)
    throw new FormatError(path, `is no trace that flexllmgen wrote: otherData.writer "${TRACE_WRITER}" expected`);
  if (!Array.isArray(traceEvents)) throw new FormatError(path, 'traceEvents: an array expected');
  if (traceEvents.length > MAX_TRACE_ENTRIES)
    throw new FormatError(path, `traceEvents: has ${traceEvents.length} entries, at most ${MAX_TRACE_ENTRIES} are read`);
  const droppedEvents = countIn({ path, place: 'otherData', object: otherData }, 'droppedEvents');
  const events = traceEvents.flatMap((entry: unknown, index) => readEntry(path, `traceEvents[${index}]`, entry));
  return { events, droppedEvents };
}

/** An object of the file, and where in it for messages. */
interface Part {
  readonly path: string;
  readonly place: string;
  readonly object: JsonObject;
}

function readEntry(path: string, place: string, entry: unknown): LaneEvent[] {
  if (!isJsonObject(entry)) throw new FormatError(path, `${place}: an object expected`);
  if (entry['ph'] === 'M') return [];
  if (entry['ph'] !== 'X') throw new FormatError(path, `${place}.ph: "X" or "M" expected, got ${quote(entry['ph'])}`);
  const { name, cat, args } = entry;
  const lane = LANES.find((known) => known === cat);
  if (lane === undefined) throw new FormatError(path, `${place}.cat: one of ${LANES.join(', ')} expected, got ${quote(cat)}`);
  // A character is up to two units of a string.
  if (typeof name !== 'string' || name.length > 2 * MAX_EVENT_NAME)
    throw new FormatError(path, `${place}.name: a string of at most ${MAX_EVENT_NAME} characters expected`);
  if (!isJsonObject(args)) throw new FormatError(path, `${place}.args: an object expected`);
  const part: Part = { path, place, object: entry };
  const ts = countIn(part, 'ts');
  const bytes = countIn({ path, place: `${place}.args`, object: args }, 'bytes');
  return [{ lane, name, bytes, startMs: ts / 1000, endMs: (ts + countIn(part, 'dur')) / 1000 }];
}

function countIn({ path, place, object }: Part, key: string): number {
  const value = object[key];
  if (typeof value === 'number' && Number.isSafeInteger(value) && value >= 0) return value;
  throw new FormatError(path, `${place}.${key}: an integer, 0 or more, expected, got ${quote(value)}`);
}

const quote = (value: unknown): string => (value === undefined ? 'nothing' : JSON.stringify(value).slice(0, 40));
