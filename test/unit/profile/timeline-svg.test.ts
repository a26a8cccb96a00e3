import { describe, expect, it } from 'vitest';
import { ticksOf, timelineSvg } from '../../../src/profile/timeline-svg.ts';
import { type LaneEvent, LANES } from '../../../src/util/lanes.ts';
import { event } from '../../helpers/lane-event.ts';

const draw = (events: readonly LaneEvent[], droppedEvents = 0): string => timelineSvg({ events, droppedEvents });
const titles = (svg: string): string[] => [...svg.matchAll(/<title>([^<]*)<\/title>/g)].map(([, text]) => text!);

/** What a parser of XML would object to in the subset that pictures use. */
function xmlProblem(text: string): string | undefined {
  const open: string[] = [];
  const rest = text.replaceAll(
    /<(\/?)([a-z]+)((?: [a-zA-Z0-9-]+="[^"<&]*")*)(\/?)>/g,
    (_, close: string, name: string, _attributes, empty: string) => {
      if (close !== '') {
        const expected = open.pop();
        if (expected !== name) open.push(`</${name}> after <${expected}>`);
      } else if (empty === '') open.push(name);
      return '';
    },
  );
  if (open.length > 0) return `not closed: ${open.join(' ')}`;
  return /[<>]|&(?!(?:amp|lt|gt|quot);)|[\u0000-\u0008\u000B\u000C\u000E-\u001F\uFFFE\uFFFF]|\p{Cs}/u.exec(rest)?.[0];
}

describe('the timeline', () => {
  it('has a row per lane that did something, with its share and the pieces', () => {
    const svg = draw([
      event('disk read', 0, 500, 'layer 0', 1e9),
      event('disk read', 500, 750, 'layer 1', 2.5e8),
      event('compute', 400, 1000, 'layer 0, batch 1'),
    ]);
    expect(xmlProblem(svg)).toBeUndefined();
    expect(titles(svg)).toEqual(['layer 0, 1.00 GB, 500 ms, 2.00 GB/s', 'layer 1, 250 MB, 250 ms, 1.00 GB/s', 'layer 0, batch 1, 600 ms']);
    expect([...svg.matchAll(/>(\d+ %)</g)].map(([, text]) => text)).toEqual(['75 %', '60 %']);
    expect(svg).toContain('bottleneck: disk read');
    expect(svg).not.toContain('upload');
    expect([...svg.matchAll(/>([\d.]+ s)</g)].map(([, text]) => text)).toEqual([
      '0.0 s',
      '0.1 s',
      '0.2 s',
      '0.3 s',
      '0.4 s',
      '0.5 s',
      '0.6 s',
      '0.7 s',
      '0.8 s',
      '0.9 s',
      '1.0 s',
    ]);
  });

  it.each([
    ['markup', '</title><script>alert(1)</script>&amp;"\''],
    ['control characters', 'a\u0000b\u001Bc\nd\uFFFE'],
    ['half a character', '\uD83D'],
    ['a long name', '<'.repeat(200)],
  ])('escapes %s', (_, name) => {
    const svg = draw([event('compute', 0, 1, name)]);
    expect(xmlProblem(svg)).toBeUndefined();
    expect(svg).not.toContain('<script');
  });

  it('would fail on what is no XML', () => {
    expect(xmlProblem('<svg><title>a < b</title></svg>')).toBe('<');
    expect(xmlProblem('<svg>a & b</svg>')).toBe('&');
    expect(xmlProblem('<svg><g></svg>')).toMatch(/not closed/);
  });

  it('divides a lane between pieces that overlap', () => {
    const svg = draw([event('disk read', 0, 60, 'a'), event('disk read', 20, 100, 'b'), event('disk read', 60, 90, 'c')]);
    const tops = [...svg.matchAll(/y="([\d.]+)" width="[\d.]+" height="11.5"><title>(\w)/g)].map(([, y, name]) => [name, Number(y)]);
    expect(tops).toEqual([
      ['a', 46],
      ['c', 46],
      ['b', 58],
    ]);
    expect(svg).toContain('>100 %<');
  });

  it('draws pieces too small to be seen as one, paler where they leave gaps', () => {
    const tiny = Array.from({ length: 1000 }, (_, i) => event('upload', i / 1000, (i + 0.5) / 1000, `piece ${i}`, 10));
    const svg = draw([...tiny, event('compute', 0, 2000)]);
    expect(titles(svg)).toEqual(['piece 0 and 999 more, 10.0 kB, 500 µs, 20.0 MB/s', 'x, 2.00 s']);
    expect(svg).toContain('fill-opacity="0.50"><title>piece 0');
  });

  it.each([
    ['usual names', (i: number) => `model.layers.${i}.mlp.gate_proj.weight, rows 0 to 4095`],
    ['names that are all escapes', () => '"'.repeat(100)],
  ])('stays below 1 MB: 200,000 overlapping pieces with %s', (_, name) => {
    const events = LANES.flatMap((lane) =>
      Array.from({ length: 40_000 }, (_piece, i) => event(lane, i / 10, i / 10 + 0.35, name(i), 1e9 + i)),
    );
    const svg = draw(events);
    expect(xmlProblem(svg)).toBeUndefined();
    expect(Buffer.byteLength(svg)).toBeLessThan(1_000_000);
    expect(Buffer.byteLength(svg)).toBeGreaterThan(100_000);
  });

  it('takes thousands of pieces at the same time', () => {
    const svg = draw(Array.from({ length: 100_000 }, () => event('disk read', 0, 1000)));
    expect(titles(svg)).toHaveLength(4);
  });

  it.each([
    ['nothing', []],
    ['a piece of no length', [event('compute', 7, 7)]],
    [
      'the longest times',
      [event('compute', 0, Number.MAX_SAFE_INTEGER), event('upload', Number.MAX_SAFE_INTEGER - 1, Number.MAX_SAFE_INTEGER)],
    ],
  ])('of %s is a picture', (_, events) => {
    const svg = draw(events);
    expect(xmlProblem(svg)).toBeUndefined();
    expect(svg).not.toMatch(/NaN|Infinity|undefined/);
  });

  it('says what is missing', () => {
    expect(draw([])).toContain('nothing was recorded');
    expect(draw([event('compute', 0, 1)], 1234)).toContain('1,234 older ones not kept');
  });
});

describe('ticks', () => {
  it.each([
    [0, 1, [0, 0.1, 0.2, 0.3, 0.4, 0.5, 0.6, 0.7, 0.8, 0.9, 1], 1],
    [0, 7.3, [0, 1, 2, 3, 4, 5, 6, 7], 0],
    [3601.2, 3652, [3605, 3610, 3615, 3620, 3625, 3630, 3635, 3640, 3645, 3650], 0],
    [0, 0.0023, [0, 0.0005, 0.001, 0.0015, 0.002], 4],
    [0, 95_000, [0, 10_000, 20_000, 30_000, 40_000, 50_000, 60_000, 70_000, 80_000, 90_000], 0],
  ])('from %d to %d s', (start, end, expected, decimals) => {
    const found = ticksOf(start, end);
    expect(found.ticks.map((tick) => Number(tick.toFixed(6)))).toEqual(expected);
    expect(found.decimals).toBe(decimals);
  });
});
