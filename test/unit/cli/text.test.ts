import { describe, expect, it } from 'vitest';
import { unescapeText } from '../../../src/cli/escapes.ts';
import { oneLine, renderFacts, renderTable, shorten } from '../../../src/cli/render.ts';
import { scoreTasks } from '../../../src/cli/score.ts';

describe('escapes', () => {
  it.each([
    [String.raw`a\nb`, 'a\nb'],
    [String.raw`a\tb`, 'a\tb'],
    [String.raw`a\\nb`, String.raw`a\nb`],
    [String.raw`\\\n`, '\\\n'],
    [String.raw`C:\data \d+ \r`, String.raw`C:\data \d+ \r`],
    ['real\nbreak', 'real\nbreak'],
    ['ends with \\', 'ends with \\'],
    ['', ''],
  ])('%j', (typed, text) => {
    expect(unescapeText(typed)).toBe(text);
  });
});

describe('tables', () => {
  it('align, cut, and keep to one line per row', () => {
    const columns = [{ title: 'name' }, { title: 'n', align: 'right' as const }, { title: 'text', maxWidth: 6 }];
    const rows = [
      ['a', '5', 'two\nlines'],
      ['größer', '1234', 'ok'],
      ['', '', ''],
    ];
    expect(renderTable(columns, rows)).toBe(
      ['  name       n  text', '  ------  ----  ------', '  a          5  two\\n…', '  größer  1234  ok', ''].join('\n') + '\n',
    );
  });

  it('without rows have their titles', () => {
    expect(renderTable([{ title: 'a' }], [])).toBe('  a\n  -\n');
  });

  it('facts have one column of values', () => {
    expect(
      renderFacts([
        ['a', '1'],
        ['long', '2\n3'],
      ]),
    ).toBe('  a     1\n  long  2\n        3\n');
  });

  it('never pass on what moves the cursor', () => {
    expect(oneLine('a\u001b[2Jb\r\nc\u009bd\t')).toBe('a[2Jb\\ncd\\t');
    expect(shorten('😀😀😀', 2)).toBe('😀…');
    expect(shorten('abc', 3)).toBe('abc');
  });
});

it('scores by task, in the order in which they appear', () => {
  const row = (task: string, answer: string) => ({ task, input: 'i', expected: 'x', answer });
  expect(scoreTasks([row('b', 'x'), row('a', 'y'), row('b', 'X'), row('b', 'x')])).toEqual([
    { task: 'b', right: 2, rows: 3, example: row('b', 'x') },
    { task: 'a', right: 0, rows: 1, example: row('a', 'y') },
  ]);
});
