import { describe, expect, it } from 'vitest';
import { TextTracker } from '../../../src/llm/text-tracker.ts';
import type { StreamDecoder } from '../../../src/tokenizer/detokenizer.ts';

/** Ids are indices into the pieces; the last text comes with the end. */
const decoderOf = (pieces: readonly string[], atEnd = ''): StreamDecoder => ({ push: (id) => pieces[id]!, end: () => atEnd });

/** What comes out token by token, and with the end; later tokens are given in spite of a stop. */
function track(pieces: readonly string[], stops: readonly string[], atEnd = '') {
  const tracker = new TextTracker(decoderOf(pieces, atEnd), stops);
  const parts = pieces.map((_, id) => tracker.push(id));
  const end = tracker.end();
  expect([...parts, end].join('')).toBe(tracker.text);
  return { parts, end, text: tracker.text, stopped: tracker.stopped };
}

describe('TextTracker', () => {
  it.each<[string, string[], string[], { parts: string[]; end?: string; stopped?: boolean }]>([
    ['no stop string', ['He', '', 'llo'], [], { parts: ['He', '', 'llo'] }],
    ['one within a token', ['a b', 'c\nd', 'e'], ['\n'], { parts: ['a b', 'c', ''], stopped: true }],
    ['one at the beginning', ['\n\n', 'a'], ['\n'], { parts: ['', ''], stopped: true }],
    ['one split over three tokens', ['ab#', '#', '#c', 'd'], ['###'], { parts: ['ab', '', '', ''], stopped: true }],
    ['a beginning that comes to nothing', ['ab#', '#', 'c'], ['###'], { parts: ['ab', '', '##c'] }],
    ['a beginning held back until the end', ['ab#', '#'], ['###'], { parts: ['ab', ''], end: '##' }],
    ['a false beginning that begins again', ['aa', 'aab', 'x'], ['aaab'], { parts: ['', 'a', ''], stopped: true }],
    ['overlapping beginnings', ['ab', 'ab', 'ac'], ['abac'], { parts: ['', 'ab', ''], stopped: true }],
    ['the earliest of several', ['x', 'END and STOP'], ['STOP', 'END'], { parts: ['x', ''], stopped: true }],
    ['one inside the held part of another', ['ab', 'c'], ['abcd', 'bc'], { parts: ['', 'a'], stopped: true }],
    ['a short one before a long one is complete', ['ab'], ['abc', 'b'], { parts: ['a'], stopped: true }],
    ['other scripts and emoji', ['Grü', 'ße 😀', '世界'], ['😀世'], { parts: ['Grü', 'ße ', ''], stopped: true }],
  ])('%s', (_what, pieces, stops, { parts, end = '', stopped = false }) => {
    expect(track(pieces, stops)).toEqual({ parts, end, text: parts.join('') + end, stopped });
  });

  it('looks at the text that comes with the end as well', () => {
    expect(track(['a#'], ['##'], '#b')).toEqual({ parts: ['a'], end: '', text: 'a', stopped: true });
    expect(track(['a#'], ['##'], '�')).toEqual({ parts: ['a'], end: '#�', text: 'a#�', stopped: false });
  });

  it('has no text without a decoder', () => {
    const tracker = new TextTracker(undefined, []);
    expect([tracker.push(3), tracker.end(), tracker.text, tracker.stopped]).toEqual(['', '', '', false]);
  });

  it('cuts like indexOf, however the text is cut into tokens', () => {
    const text = 'aabaacaabaabaaacb';
    for (const stops of [['aabaab'], ['ac', 'aaa'], ['b'], ['caab', 'abaaa'], ['zz']]) {
      const found = stops.map((stop) => text.indexOf(stop)).filter((at) => at >= 0);
      for (let size = 1; size <= 5; size++) {
        const pieces = text.match(new RegExp(`.{1,${size}}`, 'g'))!;
        const tracker = new TextTracker(decoderOf(pieces), stops);
        for (const [id] of pieces.entries()) {
          tracker.push(id);
          if (tracker.stopped) break;
        }
        tracker.end();
        const cut = found.length > 0 ? Math.min(...found) : text.length;
        expect([size, tracker.text, tracker.stopped]).toEqual([size, text.slice(0, cut), found.length > 0]);
      }
    }
  });
});
