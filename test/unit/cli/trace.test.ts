import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, it } from 'vitest';
import { trace, type TraceCliOptions } from '../../../src/cli/trace.ts';
import { writeTrace } from '../../../src/profile/chrome-trace.ts';
import { FormatError, UsageError } from '../../../src/util/errors.ts';
import type { LaneEvent } from '../../../src/util/lanes.ts';
import { makeTemporaryFolder } from '../../helpers/write-safetensors.ts';

let folder: Awaited<ReturnType<typeof makeTemporaryFolder>>;
beforeEach(async () => {
  folder = await makeTemporaryFolder();
  await writeTrace(at('t.json'), { events: () => [...EVENTS], droppedEvents: 0 });
});
afterEach(() => folder[Symbol.asyncDispose]());

const EVENTS: readonly LaneEvent[] = [
  { lane: 'disk read', name: 'layer 0', bytes: 1.5e9, startMs: 0, endMs: 750 },
  { lane: 'compute', name: 'layer 0, batch 0', bytes: 0, startMs: 600, endMs: 1000 },
];
const at = (name: string): string => join(folder.path, name);

async function run(file: string, options: TraceCliOptions = {}): Promise<string> {
  let text = '';
  const output = { out: (part: string) => void (text += part), err: () => {} };
  expect(await trace(file, options, output)).toBe(0);
  return text;
}

describe('flexllmgen trace', () => {
  it('shows a table of the lanes and names the one that the others wait for', async () => {
    expect(await run(at('t.json'))).toBe(
      [
        '  lane         busy    time    bytes       rate  pieces',
        '  ---------  ------  ------  -------  ---------  ------',
        '  disk read  75.0 %  0.75 s  1.50 GB  2.00 GB/s       1',
        '  compute    40.0 %  0.40 s        -          -       1',
        '',
        '  recorded    1.00 s',
        '  bottleneck  disk read',
        '',
      ].join('\n'),
    );
  });

  it('says what a full log has dropped', async () => {
    await writeTrace(at('t.json'), { events: () => [...EVENTS], droppedEvents: 12_345 });
    expect(await run(at('t.json'))).toMatch(/^ {2}not kept +12,345 older pieces$/m);
  });

  it('with --json: one line', async () => {
    expect(JSON.parse(await run(at('t.json'), { json: true }))).toEqual({
      file: at('t.json'),
      seconds: 1,
      droppedEvents: 0,
      lanes: [
        { lane: 'disk read', busySeconds: 0.75, bytes: 1.5e9, pieces: 1 },
        { lane: 'compute', busySeconds: 0.4, bytes: 0, pieces: 1 },
      ],
      bottleneck: 'disk read',
    });
  });

  it('with --svg: a picture', async () => {
    expect(await run(at('t.json'), { svg: at('t.svg') })).toBe(`${at('t.svg')}: timeline of 1.00 s\n`);
    expect(readFileSync(at('t.svg'), 'utf8')).toMatch(/^<svg [\s\S]*<\/svg>\n$/);
    expect(JSON.parse(await run(at('t.json'), { svg: at('t.svg'), json: true }))).toMatchObject({ svg: at('t.svg'), seconds: 1 });
  });

  it('shows an empty trace', async () => {
    await writeTrace(at('t.json'), { events: () => [], droppedEvents: 0 });
    expect(await run(at('t.json'))).toMatch(/bottleneck +none: nothing was recorded\n$/);
    expect(JSON.parse(await run(at('t.json'), { json: true }))).toMatchObject({ seconds: 0, lanes: [], bottleneck: null });
  });

  it('never writes the picture over the trace', async () => {
    await expect(trace(at('t.json'), { svg: join(folder.path, '.', 't.json') })).rejects.toThrow(UsageError);
  });

  it('refuses what is no trace and writes nothing then', async () => {
    writeFileSync(at('x.json'), '{}');
    await expect(trace(at('x.json'), { svg: at('x.svg') })).rejects.toThrow(FormatError);
    expect(() => readFileSync(at('x.svg'))).toThrow(/ENOENT/);
  });
});
