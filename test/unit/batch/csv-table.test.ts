import { describe, expect, it } from 'vitest';
import { csvRecords, MAX_RECORD_BYTES } from '../../../src/batch/csv-records.ts';
import { openCsv } from '../../../src/batch/csv-table.ts';
import type { FileChunks } from '../../../src/batch/file-chunks.ts';
import type { InputRow, TableSettings } from '../../../src/batch/rows.ts';

/** Bytes in pieces of `size`, as a file system may deliver them. */
async function* pieces(bytes: Buffer, size: number): AsyncGenerator<Buffer, void, void> {
  for (let at = 0; at < bytes.length; at += size) yield bytes.subarray(at, at + size);
}

async function collect<T>(items: AsyncIterable<T>): Promise<T[]> {
  const all: T[] = [];
  for await (const item of items) all.push(item);
  return all;
}

function source(text: string | Buffer, hasBom = false): FileChunks {
  return { chunks: pieces(Buffer.from(text), 7), hasBom: () => hasBom, digest: () => ({ bytes: 0, sha256: '' }) };
}

const settings: TableSettings = { name: 'in.csv', templates: { prompt: '{{a}}' }, column: 'completion', params: {}, returnTokenIds: false };
const completion = { text: 'x, "y"\nz', finishReason: 'stop' as const, promptTokens: 1, completionTokens: 1 };
const render = (row: InputRow): string => row.render({ completion }, { created: 0, model: '' });

describe('csvRecords', () => {
  // Each row: [first line, cells].
  it.each([
    [
      'plain cells',
      'a,b\n1,2\n',
      [
        [1, ['a', 'b']],
        [2, ['1', '2']],
      ],
    ],
    [
      'CRLF',
      'a,b\r\n1,2\r\n',
      [
        [1, ['a', 'b']],
        [2, ['1', '2']],
      ],
    ],
    [
      'both line ends',
      'a\r\n1\n2\r\n',
      [
        [1, ['a']],
        [2, ['1']],
        [3, ['2']],
      ],
    ],
    [
      'no newline at the end',
      'a\n1',
      [
        [1, ['a']],
        [2, ['1']],
      ],
    ],
    ['delimiters in quotes', '"a,b","c"\n', [[1, ['a,b', 'c']]]],
    ['doubled quotes', '"a ""b"" c",""""\n', [[1, ['a "b" c', '"']]]],
    [
      'newlines in quotes, and lines after them',
      'a\n"1\n2\r\n3"\n4\n',
      [
        [1, ['a']],
        [2, ['1\n2\r\n3']],
        [5, ['4']],
      ],
    ],
    [
      'empty cells',
      ',\n"",\n',
      [
        [1, ['', '']],
        [2, ['', '']],
      ],
    ],
    [
      'blank lines',
      'a\n\n\n1\n\n',
      [
        [1, ['a']],
        [4, ['1']],
      ],
    ],
    ['spaces', ' a , b \n', [[1, [' a ', ' b ']]]],
    ['a quote within a cell', 'a"b,5" pipe\n', [[1, ['a"b', '5" pipe']]]],
    ['text behind a closing quote', '"a"b,c\n', [[1, ['"a"b', 'c']]]],
    ['a lone carriage return', 'a\rb,c\n', [[1, ['a\rb', 'c']]]],
    ['NUL', 'a\0,b\n', [[1, ['a\0', 'b']]]],
  ])('reads %s', async (_what, text, expected) => {
    for (const size of [1, 3, 1000]) {
      const records = await collect(csvRecords(pieces(Buffer.from(text), size)));
      expect(records.map(({ line, cells }) => [line, cells])).toEqual(expected);
    }
  });

  it('reports a quote that is never closed as the last row', async () => {
    const records = await collect(csvRecords(pieces(Buffer.from('a,b\n1,2\n3,"4\n5,6\n'), 5)));
    expect(records.map(({ line, broken }) => [line, broken])).toEqual([
      [1, undefined],
      [2, undefined],
      [3, 'a quote is opened and never closed before the end of the file; the rest of the file was not read'],
    ]);
  });

  it.each([
    ['quoted', '"'],
    ['unquoted', ''],
  ])('gives up on a %s record without end, but reads the file to its end', async (_what, quote) => {
    let read = 0;
    const endless = async function* (): AsyncGenerator<Buffer, void, void> {
      yield Buffer.from(`a\n1\n${quote}`);
      for (; read < 2 * MAX_RECORD_BYTES; read += 2 ** 16) yield Buffer.alloc(2 ** 16, 'x');
    };
    const records = await collect(csvRecords(endless()));
    expect(records.map(({ line }) => line)).toEqual([1, 2, 3]);
    expect(records[2]!.broken).toMatch(new RegExp(`within ${MAX_RECORD_BYTES} bytes`));
    expect(read).toBe(2 * MAX_RECORD_BYTES);
  });
});

describe('openCsv', () => {
  it('writes what it read, and the result behind it', async () => {
    const table = await openCsv(source('a,b\n"1,""2""\n3",ü\n'), settings);
    const rows = await collect(table.rows);
    expect(table.prologue).toBe('a,b,completion,finish_reason,error\n');
    expect(rows.map(render)).toEqual(['"1,""2""\n3",ü,"x, ""y""\nz",stop,\n']);
    expect(rows[0]).toMatchObject({ index: 0, line: 2, request: { prompt: '1,"2"\n3' } });
  });

  it('keeps byte order mark and line ends', async () => {
    const table = await openCsv(source('a\r\n1\r\n', true), settings);
    const rows = await collect(table.rows);
    expect(table.prologue + rows.map(render).join('')).toBe('\ufeffa,completion,finish_reason,error\r\n1,"x, ""y""\nz",stop,\r\n');
  });

  it('gives a second column beside those of a first job', async () => {
    const table = await openCsv(source('a,one,finish_reason,error\n'), { ...settings, column: 'two' });
    expect(table.prologue).toBe('a,one,finish_reason,error,two,two_finish_reason,two_error\n');
    await table[Symbol.asyncDispose]();
  });

  it.each([
    ['a column that is twice there', 'a,a\n', /column "a" is 2 times in in.csv/],
    ['a header that is not UTF-8', Buffer.from([0x61, 0x2c, 0xff, 10]), /name of column 2 is not UTF-8/],
    ['a header that does not end', 'a,"b\n1,2\n', /no header, a quote is opened/],
    ['lines that end with CR', 'a,b\r1,2\r', /in.csv: the header has a carriage return without a newline; save the file with LF or CRLF/],
    ['lines of quoted cells that end with CR', '"a","b"\r"1","2"\r', /carriage return without a newline/],
    ['semicolons', 'a;b\n1;2\n', /column "a" is not in in.csv; it has "a;b"/],
  ])('refuses %s', async (_what, text, message) => {
    await expect(openCsv(source(text), settings)).rejects.toMatchObject({ code: 'usage', message: expect.stringMatching(message) });
  });
});
