import { describe, expect, it } from 'vitest';
import { listFiles, readText } from './repository.ts';

/** The house limit; a longer file has more than one concept. */
const MAX_SOURCE_LINES = 300;

const TEXT = ['ts', 'js', 'mjs', 'json', 'md', 'sh', 'py', 'yml', 'run'];

const FORBIDDEN: readonly (readonly [string, RegExp])[] = [
  ['paths of one machine', /(?<![\w.~-])\/(?:home|Users|root|work)(?=[/\s'"`)\]]|$)/m],
  ['addresses of registries', /\bregistry\.[a-z-]+\.[a-z]|npmmirror|artifactory/i],
  ['notes of unfinished work', /\b(?:TODO|FIXME|XXX|HACK)\b/],
];

/** A line of one word in capitals stands for what somebody wanted to write. */
const PLACEHOLDER = /^[A-Z]{4,}$/m;

describe('files written by hand', () => {
  const files = listFiles('.', TEXT).filter((path) => path !== 'test/meta/text.test.ts');

  it.each(FORBIDDEN)('have no %s', (_what, pattern) => {
    expect(files.length).toBeGreaterThan(30);
    const hits = files.flatMap((path) => {
      const hit = pattern.exec(readText(path));
      return hit ? [`${path}: ${JSON.stringify(hit[0])}`] : [];
    });
    expect(hits).toEqual([]);
  });

  it.each([
    ['paths of one machine', "open('/home/someone/model')", true],
    ['paths of one machine', 'node ~/work/x.js and src/home/page', false],
    ['addresses of registries', 'https://registry.example.org/a', true],
    ['addresses of registries', 'a registry. Another', false],
    ['notes of unfinished work', '// TODO: later', true],
    ['notes of unfinished work', 'todo list', false],
  ])('%s: %s', (what, text, expected) => {
    const [, pattern] = FORBIDDEN.find(([name]) => name === what)!;
    expect(pattern.test(text)).toBe(expected);
  });

  it('have no placeholders for prose', () => {
    const pages = files.filter((path) => path.endsWith('.md'));
    expect(pages).toContain('README.md');
    expect(pages.filter((path) => PLACEHOLDER.test(readText(path)))).toEqual([]);
    expect(PLACEHOLDER.test('Speed:\nNUMBERS\n')).toBe(true);
  });

  it(`have at most ${MAX_SOURCE_LINES} lines in src/`, () => {
    const long = listFiles('src', ['ts']).map((path) => ({ path, lines: readText(path).trimEnd().split('\n').length }));
    expect(long.filter(({ lines }) => lines > MAX_SOURCE_LINES)).toEqual([]);
  });
});
